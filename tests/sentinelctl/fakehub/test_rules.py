from typing import Any

import pytest

from sentinelctl.fakehub.diff import FileDiff
from sentinelctl.fakehub.hub import Repository
from sentinelctl.fakehub.rules import Placed, Refused, Unplaced, check_comment, check_review, place

LINE = "Pull request review thread line must be part of the diff"
START = "Pull request review thread start line must be part of the same hunk as the line."
ORDER = "Pull request review thread start line must precede the end line."
HUNK = "Pull request review thread diff hunk can't be blank"
PATH = "Path could not be resolved"


@pytest.fixture
def files(served: Repository) -> dict[str, FileDiff]:
    return {one.path: one for one in served.git.changes(served.git.tip)}


# two_hunks.py: @@ -1,6 +1,6 @@ and @@ -27,6 +27,7 @@; line 3 changed, line 30 added.
@pytest.mark.parametrize(
    ("path", "side", "line", "position"),
    [
        ("two_hunks.py", "RIGHT", 1, 1),
        ("two_hunks.py", "RIGHT", 3, 4),
        ("two_hunks.py", "LEFT", 3, 3),
        ("two_hunks.py", "LEFT", 6, 7),
        ("two_hunks.py", "RIGHT", 30, 12),
        ("two_hunks.py", "RIGHT", 33, 15),
        ("two_hunks.py", "LEFT", 32, 15),
        ("no_newline.txt", "RIGHT", 3, 4),
        ("crlf.txt", "RIGHT", 2, 3),
        ("new_name.txt", "RIGHT", 10, 5),
        ("gone.txt", "LEFT", 2, 2),
        ("caf\ufffd.txt", "RIGHT", 1, 2),
    ],
)
def test_a_line_of_a_hunk_takes_a_comment(
    files: dict[str, FileDiff], path: str, side: str, line: int, position: int
) -> None:
    placed = place(_comment(path, line, side), files)
    assert isinstance(placed, Placed)
    assert placed.anchor.position == position


@pytest.mark.parametrize(
    ("comment", "sentence"),
    [
        (("two_hunks.py", 7, "RIGHT"), f"{LINE} and {HUNK}"),
        (("two_hunks.py", 26, "LEFT"), f"{LINE} and {HUNK}"),
        (("two_hunks.py", 33, "LEFT"), f"{LINE} and {HUNK}"),
        (("two_hunks.py", 34, "RIGHT"), f"{LINE} and {HUNK}"),
        (("two_hunks.py", 0, "RIGHT"), f"{LINE} and {HUNK}"),
        (("no_newline.txt", 4, "RIGHT"), f"{LINE} and {HUNK}"),
        (("gone.txt", 1, "RIGHT"), f"{LINE} and {HUNK}"),
        (("data.bin", 1, "RIGHT"), f"{LINE} and {HUNK}"),
        (("tool.sh", 1, "RIGHT"), f"{LINE} and {HUNK}"),
        (("old_name.txt", 10, "LEFT"), PATH),
        (("absent.py", 1, "RIGHT"), PATH),
        (("two_hunks.py", 30, "RIGHT", 3), START),
        (("two_hunks.py", 30, "RIGHT", 20), START),
        (("two_hunks.py", 30, "RIGHT", 30), ORDER),
        (("two_hunks.py", 3, "RIGHT", 5), ORDER),
        (("two_hunks.py", 3, "LEFT", 3, "RIGHT"), ORDER),
        (("two_hunks.py", 20, "RIGHT", 3), f"{LINE}, {START}, and {HUNK}"),
    ],
)
def test_a_wrong_anchor_is_refused_in_githubs_words(
    files: dict[str, FileDiff], comment: tuple[Any, ...], sentence: str
) -> None:
    found = place(_comment(*comment), files)
    assert isinstance(found, Unplaced)
    assert found.sentence() == sentence


@pytest.mark.parametrize(
    ("line", "side", "start_line", "start_side"),
    [(5, "RIGHT", 1, None), (6, "LEFT", 2, None), (3, "RIGHT", 3, "LEFT"), (33, "RIGHT", 27, "RIGHT")],
)
def test_a_range_inside_one_hunk_takes_a_comment(
    files: dict[str, FileDiff], line: int, side: str, start_line: int, start_side: str | None
) -> None:
    assert isinstance(place(_comment("two_hunks.py", line, side, start_line, start_side), files), Placed)


def test_a_single_comments_problems_are_objects(files: dict[str, FileDiff]) -> None:
    found = place(_comment("two_hunks.py", 20, "RIGHT"), files)
    assert isinstance(found, Unplaced)
    about = {"resource": "PullRequestReviewComment"}
    field = "pull_request_review_thread."
    assert found.objects() == [
        {**about, "code": "custom", "field": f"{field}line", "message": f"{field}line must be part of the diff"},
        {**about, "code": "missing_field", "field": f"{field}diff_hunk"},
    ]


@pytest.mark.parametrize(
    ("request_body", "words"),
    [
        ([], "Invalid request.\n\n[] is not an object."),
        ({"event": "comment", "body": "x"}, "'comment' is not a member of"),
        ({"event": "COMMENT", "body": "x", "lines": 1}, '"lines" is not a permitted key.'),
        ({"event": "COMMENT", "body": 7}, "For 'properties/body', 7 is not a string."),
        ({"event": "COMMENT", "comments": {}}, "For 'properties/comments', {} is not an array."),
        ({"event": "COMMENT", "body": ""}, "Body can't be blank"),
        ({"event": "COMMENT"}, "Body can't be blank"),
        ({"event": "REQUEST_CHANGES", "comments": [{"path": "a", "line": 1, "body": "x"}]}, "Body can't be blank"),
        ({"event": "COMMENT", "body": "x" * 65_537}, "Body is too long (maximum is 65536 characters)"),
    ],
)
def test_a_review_without_githubs_schema_is_refused(request_body: Any, words: str) -> None:
    with pytest.raises(Refused) as caught:
        check_review(request_body)
    assert caught.value.status == 422
    assert any(words in str(text) for text in (caught.value.message, *caught.value.errors))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": None}, '"path" wasn\'t supplied.'),
        ({"body": None}, '"body" wasn\'t supplied.'),
        ({"line": None}, '"line" wasn\'t supplied.'),
        ({"line": True}, "For 'properties/line', True is not an integer."),
        ({"line": "3"}, "For 'properties/line', '3' is not an integer."),
        ({"side": "right"}, "'right' is not a member of ['LEFT', 'RIGHT']."),
        ({"subject_type": "line"}, '"subject_type" is not a permitted key.'),
    ],
)
def test_a_comment_without_githubs_schema_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused) as caught:
        check_comment({**_comment("a.py", 3, "RIGHT"), **changes})
    assert caught.value.message == f"Invalid request.\n\n{words}"


def test_a_review_may_have_comments_and_no_body() -> None:
    check_review({"event": "COMMENT", "comments": [_comment("a.py", 3, "RIGHT")]})


def _comment(
    path: str, line: int, side: str, start_line: int | None = None, start_side: str | None = None
) -> dict[str, Any]:
    comment = {"path": path, "line": line, "side": side, "body": "text"}
    if start_line is not None:
        comment["start_line"] = start_line
    if start_side is not None:
        comment["start_side"] = start_side
    return comment
