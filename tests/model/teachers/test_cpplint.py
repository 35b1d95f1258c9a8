from pathlib import Path

import pytest

from model.labels import load_concepts, rules_of
from model.teachers import Teacher, cpplint
from tests.model.teachers.present import check, present, said

FAULTS = """\
using namespace std;
class A {
 public:
  A(int x);
};
long total;
void f(int n) {
  if (n)
    n = 1;
  else {
    n = (int) 3.5;
  }
  struct tm* t = localtime(&now);
}
"""


@pytest.fixture
def teacher() -> Teacher:
    return present(lambda: cpplint.teacher([rule for rule, _ in rules_of("cpplint", load_concepts())]))


def test_each_fault_is_reported_at_its_row_and_nothing_that_was_not_asked(teacher: Teacher, tmp_path: Path) -> None:
    report = check(teacher, tmp_path, {"a.cpp": FAULTS, "b.c": "short s;\n", "c.cc": "int main() { return 0; }\n"})
    assert said(report) == {
        ("a.cpp", 1, "build/namespaces"),
        ("a.cpp", 4, "runtime/explicit"),
        ("a.cpp", 6, "runtime/int"),
        ("a.cpp", 10, "readability/braces"),
        ("a.cpp", 11, "readability/casting"),
        ("a.cpp", 13, "runtime/threadsafe_fn"),
        ("b.c", 1, "runtime/int"),
    }


def test_a_category_that_cpplint_lacks_finds_nothing(tmp_path: Path) -> None:
    teacher = present(lambda: cpplint.teacher(["no/such"]))
    assert said(check(teacher, tmp_path, {"a.cpp": FAULTS})) == set()
