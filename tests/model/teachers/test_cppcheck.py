from pathlib import Path

import pytest

from model.teachers import Teacher, cppcheck
from tests.model.teachers.present import check, present, said

LEAK = """\
#include <stdlib.h>
void load(int n) {
    char *text = malloc(10);
    if (n) return;
    free(text);
}
"""


@pytest.fixture
def teacher() -> Teacher:
    return present(cppcheck.teacher)


def test_each_fault_is_reported_at_its_row(teacher: Teacher, tmp_path: Path) -> None:
    report = check(
        teacher, tmp_path, {"a.c": LEAK, "b.cpp": "int main() {\n  int a[2];\n  a[2] = 1;\n  return a[2];\n}\n"}
    )
    assert ("a.c", 4, "memleak") in said(report)
    assert ("b.cpp", 3, "arrayIndexOutOfBounds") in said(report)
    assert report.unparsable == frozenset()


def test_a_file_that_does_not_parse_is_named_and_the_others_are_read(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"a.c": "int main() { if ( } \n", "b.c": LEAK})
    assert report.unparsable == {"a.c"}
    assert {one.file for one in report.diagnostics} == {"b.c"}


def test_a_header_that_is_not_there_is_no_fault(teacher: Teacher, tmp_path: Path) -> None:
    assert said(check(teacher, tmp_path, {"a.c": '#include "gone.h"\nint main(void) { return 0; }\n'})) == set()
