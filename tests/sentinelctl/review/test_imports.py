import io
import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.labels import load_concepts
from sentinelctl.errors import UsageError
from sentinelctl.review.formats import annotations, document, sarif
from sentinelctl.review.imports import Imported, place, read
from sentinelctl.review.text import lines, summary
from tests.sentinelctl.review.made import diff, reviewed


def result(**changes: Any) -> dict[str, Any]:
    region = {"startLine": 3, "endLine": 4}
    made = {
        "ruleId": "E722",
        "level": "error",
        "message": {"text": "Do not use bare `except`"},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": "a.py"}, "region": region}}],
    }
    return {key: value for key, value in (made | changes).items() if value is not None}


def at(uri: str, line: int = 3, **artifact: str) -> list[dict[str, Any]]:
    return [{"physicalLocation": {"artifactLocation": {"uri": uri, **artifact}, "region": {"startLine": line}}}]


def run(*results: dict[str, Any], name: str = "ruff", rules: Any = None, **changes: Any) -> dict[str, Any]:
    return {"tool": {"driver": {"name": name, "rules": rules or []}}, "results": list(results), **changes}


def report(folder: Path, *runs: dict[str, Any]) -> str:
    path = folder / "report.sarif"
    path.write_text(json.dumps({"version": "2.1.0", "runs": list(runs)}))
    return str(path)


def one(folder: Path, *runs: dict[str, Any]) -> Imported:
    (found,) = read(report(folder, *runs))
    return found


def test_a_rule_that_the_catalog_knows_speaks_in_its_words(tmp_path: Path) -> None:
    found = one(tmp_path, run(result()))
    assert (found.tool, found.code, found.path, found.first, found.last) == ("ruff", "E722", "a.py", 3, 4)
    assert (found.concept, found.title, found.severity, found.is_known) == ("bare_except", "Bare except", "bug", True)
    assert found.said_by == "ruff E722"


@pytest.mark.parametrize(
    ("tool", "code", "path", "concept"),
    [
        ("ESLint", "eqeqeq", "a.ts", "loose_equality"),
        ("ESLint", "@typescript-eslint/no-explicit-any", "a.ts", "any_type"),
        ("ShellCheck", "SC2086", "a.sh", "unquoted_variable"),
        ("Cppcheck", "memleakOnRealloc", "a.c", "realloc_leak"),
        ("checkstyle", "EmptyCatchBlock", "A.java", "swallowed_exception"),
        ("ruff", "E722", "a.js", "ruff/E722"),  # the concept is not asked of that language
        ("bandit", "B602", "a.py", "bandit/B602"),
    ],
)
def test_each_teacher_is_known_by_the_name_it_gives_itself(
    tool: str, code: str, path: str, concept: str, tmp_path: Path
) -> None:
    assert one(tmp_path, run(result(ruleId=code, locations=at(path)), name=tool)).concept == concept


def test_a_rule_that_it_does_not_know_speaks_in_the_tool_s_words(tmp_path: Path) -> None:
    rules = [{"id": "X1", "shortDescription": {"text": "A   short\nword"}, "properties": {}}]
    found = one(tmp_path, run(result(ruleId="X1", level="note"), name="semgrep", rules=rules))
    assert (found.concept, found.title, found.text) == ("semgrep/X1", "A short word", "Do not use bare `except`")
    assert (found.category, found.severity, found.is_known) == ("other", "nit", False)


@pytest.mark.parametrize(
    ("changes", "rule", "severity"),
    [
        ({"level": "error"}, {}, "bug"),
        ({"level": "warning"}, {}, "suggestion"),
        ({"level": "none"}, {}, "nit"),
        ({"level": None}, {}, "suggestion"),
        ({"level": None}, {"defaultConfiguration": {"level": "error"}}, "bug"),
        ({"level": None}, {"defaultConfiguration": {"level": "note"}}, "nit"),
        ({"level": "note"}, {"properties": {"security-severity": "9.1"}}, "critical"),
        ({"level": "note"}, {"properties": {"security-severity": "7.0"}}, "bug"),
        ({"level": "note"}, {"properties": {"security-severity": "3.0"}}, "nit"),
    ],
)
def test_a_level_becomes_a_severity(
    changes: dict[str, Any], rule: dict[str, Any], severity: str, tmp_path: Path
) -> None:
    found = one(tmp_path, run(result(ruleId="X1", **changes), name="semgrep", rules=[{"id": "X1", **rule}]))
    assert found.severity == severity
    assert found.category == ("security" if "properties" in rule else "other")


def test_ruff_calls_everything_an_error_and_is_not_believed(tmp_path: Path) -> None:
    assert one(tmp_path, run(result(ruleId="D203"))).severity == "suggestion"


def test_a_rule_can_be_named_by_its_index_or_in_an_object(tmp_path: Path) -> None:
    rules = [{"id": "E711"}, {"id": "E722"}]
    assert one(tmp_path, run(result(ruleId=None, ruleIndex=1), rules=rules)).code == "E722"
    assert one(tmp_path, run(result(ruleId=None, rule={"id": "E711"}), rules=rules)).code == "E711"


def test_what_was_suppressed_is_gone_or_has_no_place_is_left_out(tmp_path: Path) -> None:
    left_out = [
        result(suppressions=[{"kind": "inSource"}]),
        result(baselineState="absent"),
        result(locations=[]),
        result(locations=None),
        result(locations=[{"physicalLocation": {"artifactLocation": {"uri": "a.py"}}}]),
        result(locations=[{"logicalLocations": []}]),
    ]
    assert read(report(tmp_path, run(*left_out))) == ()
    assert len(read(report(tmp_path, run(*left_out, result(), result()), run(result())))) == 3


def test_a_path_can_stand_on_a_base_be_encoded_or_be_an_address(tmp_path: Path) -> None:
    bases = {"SRC": {"uri": "file:///home/me/repo/"}}
    assert one(tmp_path, run(result(locations=at("a%20b.py", uriBaseId="SRC")), originalUriBaseIds=bases)).path == (
        "/home/me/repo/a b.py"
    )
    assert one(tmp_path, run(result(locations=at("src/a%20b.py", uriBaseId="ROOT")))).path == "src/a b.py"
    assert one(tmp_path, run(result(locations=at("file:///home/me/a.py")))).path == "/home/me/a.py"


def diagnostic(**changes: Any) -> dict[str, Any]:
    place = {"path": "a.py", "range": {"start": {"line": 3, "column": 1}, "end": {"line": 4}}}
    return {"message": "bare", "location": place, "severity": "ERROR", "code": {"value": "E722"}} | changes


def test_rdjson_is_read_as_one_document_or_a_diagnostic_a_line(tmp_path: Path) -> None:
    whole, by_line = tmp_path / "a.rdjson", tmp_path / "a.rdjsonl"
    source = {"source": {"name": "ruff"}}
    whole.write_text(json.dumps(source | {"diagnostics": [diagnostic(), diagnostic(severity=None)]}))
    by_line.write_text("".join(f"{json.dumps(diagnostic(**source))}\n" for _ in range(2)) + "\n")
    for path in (whole, by_line):
        first, second = read(str(path))
        assert (first.tool, first.code, first.path, first.first, first.last) == ("ruff", "E722", "a.py", 3, 4)
        assert first.concept == second.concept == "bare_except"


def test_rdjson_without_source_code_or_range_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "a.rdjson"
    bare = {"message": "odd", "location": {"path": "a.py", "range": {"start": {"line": 3}}}}
    path.write_text(json.dumps({"diagnostics": [bare, {"message": "none", "location": {"path": "a.py"}}]}))
    (found,) = read(str(path))
    assert (found.tool, found.concept, found.severity, found.text) == ("imported", "imported", "suggestion", "odd")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is no JSON"),
        (b"\xff\xfe\x00", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[]", "holds list where SARIF or rdjson is one object"),
        (b"{}", "has neither `runs`, as SARIF has, nor `diagnostics`"),
        (b'{"results": []}', "it has results"),
        (b'{"runs": 3}', "is neither SARIF nor rdjson as they are defined"),
        (b'{"runs": [{}]}', "KeyError 'tool'"),
        (b'{"runs": [{"tool": {"driver": {"name": "x"}}, "results": [3]}]}', "AttributeError"),
        (b'{"diagnostics": [{"message": "x"}]}', "KeyError 'location'"),
    ],
)
def test_a_file_that_is_neither_is_refused_with_what_was_seen(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read(str(tmp_path / "odd.json"))
    assert words in caught.value.message
    assert "ruff check --output-format sarif" in caught.value.remedy


def test_nothing_a_line_is_a_clean_result(tmp_path: Path) -> None:
    (tmp_path / "clean.rdjsonl").write_bytes(b"")
    assert read(str(tmp_path / "clean.rdjsonl")) == ()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be imported: No such file"):
        read(str(tmp_path / "none.sarif"))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["runs", "tool", "driver", "name", "results", "locations", "diagnostics", "message", "location"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_read_or_refused(document: Any) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(json.dumps(document).encode()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", stdin)
        with suppress(UsageError):
            assert all(isinstance(each, Imported) for each in read("-"))


# Onto the diff.

REPORT = Imported("ruff", "E722", "a.py", 2, 2, "bare_except", "Bare except", "", "error_handling", "bug", True)
OTHER = replace(REPORT, tool="semgrep", code="X1", concept="semgrep/X1", title="Odd", text="Odd.", is_known=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    return tmp_path / "repo"


@pytest.mark.parametrize(
    ("path", "ran_in"),
    [
        ("src/a.py", ""),
        ("./src/a.py", ""),
        ("a.py", "src"),
        ("../src/a.py", "lib"),
        ("{}/src/a.py", ""),
        ("{}/src/a.py", "deep/down"),
        ("src\\a.py", ""),
    ],
)
def test_a_path_is_found_from_wherever_the_tool_ran(path: str, ran_in: str, repository: Path) -> None:
    found = place([replace(REPORT, path=path.format(repository))], {"src/a.py", "b.py"}, repository / ran_in)
    assert list(found) == ["src/a.py"]


def test_a_path_that_is_not_in_the_diff_is_left_out(repository: Path, tmp_path: Path) -> None:
    names = ("c.py", "/etc/a.py", "../a.py", f"{tmp_path}/a.py", "", "https://example.org/a.py", "a.py/..", "\x00")
    assert place([replace(REPORT, path=name) for name in names], {"a.py"}, repository) == {}
    assert place([replace(REPORT, path="../a.py")], {"a.py"}, tmp_path / "nowhere" / "deep") == {}


def test_only_what_touches_an_added_line_is_kept_and_the_rest_is_counted() -> None:
    text = diff("one", "two", "three", start=10)
    reports = [replace(REPORT, first=first, last=last) for first, last in ((9, 9), (11, 11), (8, 10), (13, 20))]
    found = reviewed(text, imported=[*reports, replace(REPORT, path="b.py")])
    assert [shown.finding.line for shown in found.findings] == [11, 10]
    assert (found.imported, found.outside) == (2, 3)
    assert summary(found).endswith("; imported: 2 on the diff, 3 elsewhere")


def test_a_finding_of_both_is_shown_once_with_both_names() -> None:
    text = diff("x", "y #! bare_except bug 0.9")
    (shown,) = reviewed(text, imported=[REPORT, REPORT, replace(REPORT, tool="flake8")]).findings
    assert shown.said_by == ("sentinel", "ruff E722", "flake8 E722")
    assert (shown.confidence, shown.said) == (0.9, "ruff E722; flake8 E722; model 90%")


def test_a_doubt_of_the_model_is_shown_when_an_analyzer_shares_it() -> None:
    text = diff("x", "y #! bare_except bug 0.4")
    assert reviewed(text).findings == ()
    (shown,) = reviewed(text, imported=[REPORT]).findings
    assert (shown.said_by, shown.confidence, shown.finding.is_shown) == (("ruff E722",), 0.4, True)


def test_what_only_the_analyzer_says_has_the_model_s_confidence_and_the_catalog_s_words() -> None:
    (shown,) = reviewed(diff("try: x", "except:"), imported=[REPORT]).findings
    assert (shown.said_by, shown.confidence) == (("ruff E722",), 0.33)
    assert shown.finding.text.startswith("A bare except catches KeyboardInterrupt")
    assert shown.said == "ruff E722; model 33%"


def test_a_language_that_the_model_does_not_read_has_the_analyzer_s_word_alone() -> None:
    (shown,) = reviewed(diff("x", "y", path="a.zig"), imported=[replace(OTHER, path="a.zig")]).findings
    assert (shown.confidence, shown.said) == (None, "semgrep X1")
    made = json.loads(
        json.dumps(document(reviewed(diff("x", "y", path="a.zig"), imported=[replace(OTHER, path="a.zig")]), "x"))
    )
    assert made["findings"][0]["confidence"] is None
    assert made["findings"][0]["said_by"] == ["semgrep X1"]


def test_a_name_in_the_line_fills_the_slot_of_an_analyzer_s_finding() -> None:
    report = replace(REPORT, code="B006", concept="mutable_default", first=1, last=1)
    (shown,) = reviewed(diff("def f(cache=[]):"), imported=[report]).findings
    assert "`cache`" in shown.finding.text


def test_with_imports_the_worst_come_first_then_the_surest() -> None:
    text = diff("a #! one nit 0.9", "b #! two bug 0.6", "c #! three bug 0.8", "d #! four critical 0.5")
    report = replace(OTHER, first=1, last=1, severity="bug")
    order = [shown.finding.concept for shown in reviewed(text, imported=[report]).findings]
    assert order == ["four", "three", "two", "semgrep/X1", "one"]
    assert [shown.finding.concept for shown in reviewed(text).findings] == ["one", "two", "three", "four"]


def test_what_is_milder_than_asked_is_counted_and_a_file_that_nobody_reviews_is_elsewhere() -> None:
    text = diff("x", "y") + diff("x", "y", path="vendor/b.py")
    found = reviewed(text, "bug", [replace(OTHER, severity="nit"), replace(REPORT, path="vendor/b.py")])
    assert (found.findings, found.hidden) == ((), {"nit": 1})
    assert (found.imported, found.outside) == (1, 1)


def test_every_format_takes_a_rule_that_the_catalog_does_not_know_and_hostile_words() -> None:
    hostile = replace(
        OTHER, tool="x\x1b[2J::error::", code="a,b%\n", concept="x\x1b/a", title="T\x1b[2J", text="M\u202e\n::stop::"
    )
    found = reviewed(diff("x", "y"), imported=[hostile])
    made = sarif(found, load_concepts(), "0")["runs"][0]["results"][0]
    assert "ruleIndex" not in made
    assert made["properties"]["saidBy"] == [hostile.said_by]
    assert annotations(found).count("\n") == 1
    for text in (*(line.plain for line in lines(found)), annotations(found).strip()):
        assert all(char.isprintable() for char in text)
