import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.inputs.chunk import chunks
from model.inputs.diff import Hunk, LineKind, number_lines
from model.inputs.tokenizer import SPECIALS, Tokenizer
from tests.model import made


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return made.tokenizer()


def hunk(*lines: tuple[LineKind, str], path: str = "a.py") -> Hunk:
    old, new = (sum(kind != other for kind, _ in lines) for other in ("add", "del"))
    return number_lines(path, (1, old), (1, new), "", lines)


def spelled(row: np.ndarray, tokenizer: Tokenizer) -> str:
    """The row as text, its markers written out."""
    names = {tokenizer.special(name): name for name in SPECIALS}
    parts: list[list[int] | str] = []
    for token in map(int, row):
        if token in names:
            parts.append(names[token])
        elif parts and isinstance(parts[-1], list):
            parts[-1].append(token)
        else:
            parts.append([token])
    return "".join(part if isinstance(part, str) else tokenizer.decode(part) for part in parts)


def test_a_row_is_the_language_the_line_and_what_stands_around_it(tokenizer: Tokenizer) -> None:
    (chunk,) = chunks(hunk(("ctx", "try:"), ("add", "  x = 1"), ("add", "print(x)")), tokenizer)
    assert [spelled(row, tokenizer) for row in chunk.rows] == [
        "<python><own>  x = 1<before><ctx>try:<after><add>print(x)",
        "<python><own>print(x)<before><add>  x = 1",
    ]
    assert chunk.lines == (1, 2)


def test_deleted_and_blank_lines_are_never_read(tokenizer: Tokenizer) -> None:
    plain = hunk(("ctx", "try:"), ("add", "x = 1"), ("ctx", "print(x)"))
    noisy = hunk(
        ("ctx", "try:"),
        ("del", "x = 0"),
        ("add", "  "),
        ("add", "x = 1"),
        ("add", ""),
        ("del", "y"),
        ("ctx", "print(x)"),
    )
    (before,), (after,) = chunks(plain, tokenizer), chunks(noisy, tokenizer)
    assert [row.tolist() for row in before.rows] == [row.tolist() for row in after.rows]
    assert (before.lines, after.lines) == ((1,), (3,))


def test_a_line_two_away_changes_nothing(tokenizer: Tokenizer) -> None:
    one, other = (
        chunks(hunk(("ctx", far), ("ctx", "try:"), ("add", "x = 1"), ("ctx", "y"), ("add", far)), tokenizer)[0].rows[0]
        for far in ("import os", "print(value)")
    )
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("path", "opening"),
    [
        ("lib/a.ts", "<typescript><own>"),
        ("tests/a.c", "<c><test><own>"),
        ("a.go", "<go><own>"),
        ("a.rs", "<other><own>"),
        ("test_a.py", "<python><test><own>"),
    ],
)
def test_the_path_says_the_language_and_whether_it_holds_tests(path: str, opening: str, tokenizer: Tokenizer) -> None:
    (chunk,) = chunks(hunk(("add", "x"), path=path), tokenizer)
    assert spelled(chunk.rows[0], tokenizer) == f"{opening}x"


def test_a_neighbour_is_kept_where_it_touches_the_line(tokenizer: Tokenizer) -> None:
    """Of the line before its last tokens, of the line after its first."""
    long = " ".join(f"{n}" for n in range(100, 160))
    (chunk,) = chunks(hunk(("ctx", long), ("add", "x"), ("ctx", long)), tokenizer)
    _, _, rest = spelled(chunk.rows[0], tokenizer).partition("<before><ctx>")
    before, _, after = rest.partition("<after><ctx>")
    assert long.endswith(before)
    assert long.startswith(after)
    assert len(tokenizer.encode(before)) == len(tokenizer.encode(after)) == 12


def test_windows_hold_every_added_line_once_in_order(tokenizer: Tokenizer) -> None:
    lines = [("add", f"x = {n}") if n % 3 else ("ctx", f"y = {n}") for n in range(100)]
    windows = chunks(hunk(*lines), tokenizer, max_rows=32)
    assert [window.index for window in windows] == [0, 1, 2]
    assert [len(window.rows) for window in windows] == [32, 32, 2]
    assert [at for window in windows for at in window.lines] == [n for n in range(100) if n % 3]
    whole = chunks(hunk(*lines), tokenizer, max_rows=1000)[0]
    assert [row.tolist() for window in windows for row in window.rows] == [row.tolist() for row in whole.rows]


def test_a_hunk_that_adds_nothing_has_no_window(tokenizer: Tokenizer) -> None:
    assert chunks(hunk(("ctx", "x"), ("del", "y"), ("add", "   ")), tokenizer) == ()


def test_what_lies_past_four_hundred_characters_is_not_read(tokenizer: Tokenizer) -> None:
    line = "x" * 400
    (one,), (other,) = (
        chunks(hunk(("add", text)), tokenizer, max_tokens=1000) for text in (line, line + "yz" * 50_000)
    )
    assert one.rows[0].tolist() == other.rows[0].tolist()


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("add", "del", "ctx")),
            st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=80),
        )
    ),
    st.integers(40, 96),
)
def test_no_row_is_longer_than_allowed_whatever_the_lines(lines: list[tuple[LineKind, str]], longest: int) -> None:
    added = [at for at, (kind, text) in enumerate(lines) if kind == "add" and text.strip()]
    windows = chunks(hunk(*lines), made.tokenizer(), max_rows=4, max_tokens=longest)
    assert [at for window in windows for at in window.lines] == added
    assert all(len(row) <= longest for window in windows for row in window.rows)
