import pytest

from model.inputs.diff import parse_patch
from model.rules import MAX_COLUMNS, rule_findings

LONG = "x" * (MAX_COLUMNS + 1)


def found(text: str, path: str = "x.py") -> list[str]:
    (hunk,) = parse_patch(f"@@ -0,0 +1 @@\n+{text}", path)
    return [concept for _, concept in rule_findings(hunk)]


@pytest.mark.parametrize(
    ("path", "text", "concepts"),
    [
        ("x.py", LONG, ["line_too_long"]),
        ("x.py", LONG[1:], []),
        ("x.py", LONG[1:] + "\r", []),
        ("x.md", LONG, []),
        ("x.json", LONG, []),
        ("x.py", f"# see https://example.com/{LONG}", []),
        ("x.py", "a = 1 ", ["trailing_whitespace"]),
        ("x.py", "a = 1\t\r", ["trailing_whitespace"]),
        ("x.py", "a = 1\r", []),
        ("notes.txt", "a ", ["trailing_whitespace"]),
        ("x.md", "a line break  ", []),
        ("x.py", "# TODO: mend", ["todo_left"]),
        ("x.go", "x := 1 // FIXME", ["todo_left"]),
        ("x.c", "/* XXX */", ["todo_left"]),
        ("x.sql", "-- TODO", ["todo_left"]),
        ("x.py", "todo = TODO_LIST", []),
        ("x.py", "# TODOS", []),
        ("x.py", "TODO = 1", []),
        ("x.js", " * TODO: in a block", ["todo_left"]),
        ("x.js", "x = y * TODO", []),
        ("x.py", f"# TODO {LONG} ", ["line_too_long", "trailing_whitespace", "todo_left"]),
    ],
)
def test_a_rule_names_what_an_expression_decides(path: str, text: str, concepts: list[str]) -> None:
    assert found(text, path) == concepts


def test_only_added_lines_are_named_with_their_new_number() -> None:
    (hunk,) = parse_patch("@@ -7,2 +7,3 @@\n # TODO old\n-# TODO gone\n+a \n+# TODO new", "x.py")
    assert list(rule_findings(hunk)) == [(8, "trailing_whitespace"), (9, "todo_left")]


def test_a_line_of_fifty_thousand_marks_is_read_in_bounded_work() -> None:
    assert found("#" * 50_000 + "TODO") == ["line_too_long"]
