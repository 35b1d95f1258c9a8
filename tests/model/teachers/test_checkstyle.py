from pathlib import Path

import pytest

from model.labels import load_concepts, rules_of
from model.teachers import Teacher, checkstyle
from tests.model.teachers.present import check, present, said

FAULTS = """\
package a;
import java.util.*;
class T {
    public int count = 0;
    boolean f(String args[], String s) {
        if (args[0] == "x") return true;
        try { g(); } catch (Exception e) { }
        return s.equals("x");
    }
    protected void finalize() { }
}
"""


@pytest.fixture
def teacher() -> Teacher:
    return present(lambda: checkstyle.teacher([rule for rule, _ in rules_of("checkstyle", load_concepts())]))


def test_each_fault_is_reported_at_its_row(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"T.java": FAULTS, "Clean.java": "package a;\n\nclass Clean {\n}\n"})
    expected = {
        (2, "AvoidStarImport"), (4, "VisibilityModifier"), (4, "ExplicitInitialization"), (5, "ArrayTypeStyle"),
        (6, "StringLiteralEquality"), (6, "NeedBraces"), (7, "EmptyCatchBlock"), (7, "IllegalCatch"),
        (8, "EqualsAvoidNull"), (10, "NoFinalizer"),
    }  # fmt: skip
    assert said(report) >= {("T.java", row, code) for row, code in expected}
    assert {one.file for one in report.diagnostics} == {"T.java"}
    assert report.unparsable == frozenset()


def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"Broken.java": "class X { void f( { }\n", "T.java": FAULTS})
    assert report.unparsable == {"Broken.java"}
    assert {one.file for one in report.diagnostics} == {"T.java"}


def test_a_check_that_checkstyle_lacks_stops_the_run_with_what_it_said(tmp_path: Path) -> None:
    """And so every check that the catalog names is one it has: the other tests ask for all of them."""
    with pytest.raises(RuntimeError, match="NoSuchCheck"):
        check(present(lambda: checkstyle.teacher(["NoSuchCheck"])), tmp_path, {"T.java": FAULTS})
