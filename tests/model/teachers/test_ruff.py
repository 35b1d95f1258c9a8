from pathlib import Path

from model.teachers import Diagnostic, ruff
from tests.model.teachers.present import check, said

FAULTS = """\
def load(path, cache=[]):
    try:
        return open(path)
    except:
        return None
"""


def test_each_fault_is_reported_at_its_row(tmp_path: Path) -> None:
    report = check(ruff.teacher(["E722", "B006"]), tmp_path, {"a.py": FAULTS, "b.py": "try:\n    x\nexcept:\n    y\n"})
    assert said(report) == {("a.py", 1, "B006"), ("a.py", 4, "E722"), ("b.py", 3, "E722")}
    assert report.unparsable == frozenset()


def test_only_the_rules_asked_for_are_reported(tmp_path: Path) -> None:
    assert said(check(ruff.teacher(["E722"]), tmp_path, {"a.py": FAULTS})) == {("a.py", 4, "E722")}


def test_a_finding_of_several_rows_names_its_last(tmp_path: Path) -> None:
    report = check(ruff.teacher(["SIM102"]), tmp_path, {"a.py": "if a:\n    if b:\n        c()\n"})
    assert report.diagnostics == (Diagnostic("a.py", 1, 2, "SIM102"),)


def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    report = check(ruff.teacher(["E722"]), tmp_path, {"a.py": "def (:\n", "b.py": FAULTS})
    assert report.unparsable == {"a.py"}
    assert ("b.py", 4, "E722") in said(report)


def test_a_project_s_own_configuration_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "ruff.toml").write_text("[lint.per-file-ignores]\n'*.py' = ['E722']\n")
    assert said(check(ruff.teacher(["E722"]), tmp_path, {"a.py": FAULTS})) == {("a.py", 4, "E722")}


def test_clean_files_have_nothing_said_of_them(tmp_path: Path) -> None:
    assert check(ruff.teacher(["E722"]), tmp_path, {"a.py": "x = 1\n"}).diagnostics == ()
