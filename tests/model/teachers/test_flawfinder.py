from pathlib import Path

import pytest

from model.teachers import Teacher, flawfinder
from tests.model.teachers.present import check, present, said


@pytest.fixture
def teacher() -> Teacher:
    return present(flawfinder.teacher)


def test_a_call_that_needs_care_is_reported_with_category_risk_and_name(teacher: Teacher, tmp_path: Path) -> None:
    text = "#include <string.h>\nvoid f(char *a, char *b) {\n  strcpy(a, b);\n  system(b);\n}\n"
    report = check(teacher, tmp_path, {"a.c": text, "b.cpp": "// nothing\n"})
    assert said(report) == {("a.c", 3, "buffer4/strcpy"), ("a.c", 4, "shell4/system")}


def test_clean_files_have_nothing_said_of_them(teacher: Teacher, tmp_path: Path) -> None:
    assert check(teacher, tmp_path, {"a.c": "int main(void) { return 0; }\n"}).diagnostics == ()
