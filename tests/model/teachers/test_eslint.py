import json
import os
import sys
from pathlib import Path

import pytest

from model.teachers import Report, Teacher, eslint
from tests.model.teachers.present import check, present, said

ROOT = Path(__file__).parents[3]
MODULES = Path(os.environ.get("SENTINEL_NODE_MODULES", ROOT / "node_modules"))
RULES = ["eqeqeq", "no-var", "@typescript-eslint/no-explicit-any", "security/detect-eval-with-expression"]


@pytest.fixture
def teacher() -> Teacher:
    """The real eslint: SENTINEL_NODE_MODULES names a node_modules that has it, by default the checkout's."""
    return present(lambda: eslint.teacher(RULES, MODULES))


def test_each_fault_is_reported_at_its_row(teacher: Teacher, tmp_path: Path) -> None:
    files = {
        "a.js": "var x = 1;\nif (x == 2) {\n  eval(x);\n}\n",
        "b.ts": "const y: number = 1;\nexport function f(z: any) { return z; }\n",
        "c.tsx": "export const v = (x: number) => <b>{x == 2}</b>;\n",
    }
    report = check(teacher, tmp_path, files)
    assert said(report) == {
        ("a.js", 1, "no-var"),
        ("a.js", 2, "eqeqeq"),
        ("a.js", 3, "security/detect-eval-with-expression"),
        ("b.ts", 2, "@typescript-eslint/no-explicit-any"),
        ("c.tsx", 1, "eqeqeq"),
    }
    assert report.unparsable == frozenset()


def test_a_comment_that_silences_eslint_is_not_heard(teacher: Teacher, tmp_path: Path) -> None:
    assert said(check(teacher, tmp_path, {"a.js": "/* eslint-disable */\nvar x = 1;\n"})) == {("a.js", 2, "no-var")}


def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"a.js": "function (\n", "b.js": "var x = 1;\n"})
    assert report.unparsable == {"a.js"}
    assert said(report) == {("b.js", 1, "no-var")}


def test_a_rule_the_packages_do_not_have_is_passed_over(tmp_path: Path) -> None:
    teacher = present(lambda: eslint.teacher([*RULES, "no-such-rule", "sonarjs/no-such-rule"], MODULES))
    assert said(check(teacher, tmp_path, {"a.js": "var x = 1;\n"})) == {("a.js", 1, "no-var")}


def test_a_plugin_s_rule_that_crashes_costs_its_file_and_nothing_else(teacher: Teacher, tmp_path: Path) -> None:
    """The real eslint with a security plugin whose rule throws in the middle of a file that says `boom`."""
    modules = tmp_path / "node_modules"
    modules.mkdir()
    for real in MODULES.resolve().iterdir():
        if real.name != "eslint-plugin-security":
            (modules / real.name).symlink_to(real)
    plugin = modules / "eslint-plugin-security"
    plugin.mkdir()
    (plugin / "package.json").write_text(json.dumps({"name": plugin.name, "version": "0.0.0", "main": "index.js"}))
    (plugin / "index.js").write_text(
        """
        const create = () => ({ Identifier(node) { if (node.name === 'boom') throw new TypeError('nobody home'); } });
        module.exports = { rules: { 'detect-eval-with-expression': { meta: {}, create } } };
        """
    )
    folder = tmp_path / "files"
    folder.mkdir()
    files = {f"{name}.js": f"var {name} = 1;\n{name}();\n" for name in ("a", "boom", "c")}
    report = check(eslint.teacher(RULES, modules), folder, files)
    assert report.unparsable == {"boom.js"}
    assert {each for each in said(report) if each[0] != "boom.js"} == {("a.js", 1, "no-var"), ("c.js", 1, "no-var")}


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Ask":
    """The teacher over a stand-in for node that answers as eslint 10 does: `Ask.batches` tells what it was given."""
    return Ask(tmp_path, monkeypatch)


class Ask:
    SCRIPT = """\
import json, sys
from pathlib import Path
names = sys.argv[sys.argv.index("--no-warn-ignored") + 1:]
with Path({log!r}).open("a") as log:
    log.write(" ".join(names) + "\\n")
if any("boom" in Path(name).read_text() for name in names):
    sys.stderr.write("Oops! TypeError: x\\nOccurred while linting a file\\n")
    sys.exit(2)
if any("config" in Path(name).read_text() for name in names):
    sys.stderr.write("Oops! ConfigError: key rules is odd\\n")
    sys.exit(2)
said = dict(ruleId="no-var", message="no var", line=1)
print(json.dumps([dict(filePath=str(Path(name).resolve()), messages=[said]) for name in names]))
"""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "batches"
        script = folder / "node.py"
        script.write_text(self.SCRIPT.format(log=str(self._log)))
        (folder / "node").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        (folder / "node").chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
        for name in eslint._PACKAGES:
            (folder / "node_modules" / name).mkdir(parents=True)
        self._teacher = eslint.teacher(RULES, folder / "node_modules")
        self._folder = folder / "files"
        self._folder.mkdir()

    def __call__(self, **texts: str) -> Report:
        return check(self._teacher, self._folder, {f"{name}.js": text for name, text in texts.items()})

    @property
    def batches(self) -> list[str]:
        return self._log.read_text().splitlines()


def test_a_crash_of_eslint_itself_is_found_by_halving_and_costs_that_file(ask: Ask) -> None:
    report = ask(a="x", b="x", c="boom", d="x", e="x")
    assert report.unparsable == {"c.js"}
    assert said(report) == {(f"{name}.js", 1, "no-var") for name in "abde"}
    assert ask.batches[0] == "a.js b.js c.js d.js e.js"
    assert "a.js b.js" in ask.batches


def test_a_failure_that_is_no_file_s_stops_the_run_with_what_eslint_said(ask: Ask) -> None:
    with pytest.raises(RuntimeError, match=r"eslint failed: .*ConfigError: key rules is odd"):
        ask(a="x", b="config")
    assert len(ask.batches) == 1
