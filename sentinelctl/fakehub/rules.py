"""What GitHub refuses in a review or a comment, in its own words. Pure: a request and a diff in, errors out.

Shapes and words as GitHub answers them: the documentation of "Create a review for a pull request" and of "Create a
review comment", and error texts that users report. One bad comment fails the whole review and is not named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sentinelctl.fakehub.diff import Anchor, FileDiff, anchors

MAX_BODY_CHARS = 65_536

STATES = {"APPROVE": "APPROVED", "REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED", None: "PENDING"}
_REVIEW_KEYS = {"commit_id": str, "body": str, "event": str, "comments": list}
_LINE_KEYS = {"path": str, "body": str, "line": int, "side": str, "start_line": int, "start_side": str}
_NO_HUNK = "can't be blank"


class Refused(Exception):
    """An answer of 4xx: GitHub's message, and its errors where it gives any."""

    def __init__(self, status: int, message: str, errors: Sequence[str | Mapping[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = list(errors)


@dataclass(frozen=True)
class Placed:
    """A comment that sits on a line of the diff."""

    path: str
    body: str
    line: int
    side: str
    start_line: int | None
    start_side: str | None
    anchor: Anchor
    patch: str


@dataclass(frozen=True)
class Unplaced:
    """Why a comment has no place: GitHub's field and words, in the order GitHub lists them."""

    problems: tuple[tuple[str, str], ...]

    def sentence(self) -> str:
        """As a review's `errors` has it: one string for all of a comment's problems."""
        words = [
            f"{text[:1].upper()}{text[1:]}"
            if field == "path"
            else f"Pull request review thread {_spaced(field)} {text}"
            for field, text in self.problems
        ]
        if len(words) < 3:
            return " and ".join(words)
        return f"{', '.join(words[:-1])}, and {words[-1]}"

    def objects(self) -> list[Mapping[str, str]]:
        """As the endpoint of a single comment has it: one object for each problem."""
        found: list[Mapping[str, str]] = []
        for field, text in self.problems:
            name = f"pull_request_review_thread.{field}"
            about = {"resource": "PullRequestReviewComment", "code": "custom", "field": name}
            found.append(
                {**about, "code": "missing_field"} if text == _NO_HUNK else {**about, "message": f"{name} {text}"}
            )
        return found


def place(comment: Mapping[str, Any], files: Mapping[str, FileDiff]) -> Placed | Unplaced:
    """`comment` has passed `check_comment`; `files` are those of the diff, by path."""
    path, line, side = comment["path"], comment["line"], comment.get("side") or "RIGHT"
    start_line, start_side = comment.get("start_line"), comment.get("start_side") or side
    file = files.get(path)
    if file is None:
        return Unplaced((("path", "path could not be resolved"),))
    lines = anchors(file.patch)
    end = lines.at(side, line)
    start = None if start_line is None else lines.at(start_side, start_line)
    problems: list[tuple[str, str]] = []
    if end is None:
        problems.append(("line", "must be part of the diff"))
    if start_line is not None and (start is None or end is None or start.hunk != end.hunk):
        problems.append(("start_line", "must be part of the same hunk as the line."))
    elif start is not None and end is not None and start.position >= end.position:
        problems.append(("start_line", "must precede the end line."))
    if end is None:
        problems.append(("diff_hunk", _NO_HUNK))
    if problems or end is None or file.patch is None:
        return Unplaced(tuple(problems))
    begins_at = start_side if start_line is not None else None
    return Placed(path, comment["body"], line, side, start_line, begins_at, end, file.patch)


def check_review(request: Any) -> None:
    """Refused when the body of POST …/reviews does not have GitHub's schema."""
    _check_keys(request, _REVIEW_KEYS)
    event, body, comments = request.get("event"), request.get("body") or "", request.get("comments") or []
    if event not in STATES:
        raise _invalid(f"{event!r} is not a member of ['APPROVE', 'REQUEST_CHANGES', 'COMMENT'].")
    for comment in comments:
        check_comment(comment)
    if not body.strip() and (event == "REQUEST_CHANGES" or (event == "COMMENT" and not comments)):
        raise Refused(422, "Unprocessable Entity", ["Body can't be blank"])
    _check_length(body)


def check_comment(comment: Any, *, extra: Mapping[str, type] | None = None) -> None:
    """Refused when one comment does not have GitHub's schema. `position` is closing down and not taken here."""
    _check_keys(comment, {**_LINE_KEYS, **(extra or {})})
    for name in ("path", "body", "line"):
        if comment.get(name) is None:
            raise _invalid(f'"{name}" wasn\'t supplied.')
    for name in ("side", "start_side"):
        if comment.get(name) not in {None, "LEFT", "RIGHT"}:
            raise _invalid(f"{comment[name]!r} is not a member of ['LEFT', 'RIGHT'].")
    if not comment["body"].strip():
        raise Refused(422, "Unprocessable Entity", ["Body can't be blank"])
    _check_length(comment["body"])


def check_commit_comment(request: Any, files: Mapping[str, FileDiff]) -> None:
    """Refused when a commit comment has no body, or names a path or a position that its diff has not."""
    _check_keys(request, {"body": str, "path": str, "position": int, "line": int})
    if request.get("body") is None:
        raise _invalid('"body" wasn\'t supplied.')
    if not request["body"].strip():
        raise _failed("body", "missing_field")
    _check_length(request["body"])
    path, position = request.get("path"), request.get("position")
    file = files.get(path) if path is not None else None
    if path is not None and file is None:
        raise _failed("path", "invalid")
    if position is not None:
        count = len(file.patch.split("\n")) if file is not None and file.patch is not None else 0
        if not 1 <= position < count:
            raise _failed("position", "invalid")


def _check_keys(request: Any, kinds: Mapping[str, type]) -> None:
    if not isinstance(request, dict):
        raise _invalid(f"{request!r} is not an object.")
    for name, value in request.items():
        kind = kinds.get(name)
        if kind is None:
            raise _invalid(f'"{name}" is not a permitted key.')
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            words = {str: "a string", int: "an integer", list: "an array"}[kind]
            raise _invalid(f"For 'properties/{name}', {value!r} is not {words}.")


def _check_length(body: str) -> None:
    if len(body) > MAX_BODY_CHARS:
        raise Refused(422, "Unprocessable Entity", [f"Body is too long (maximum is {MAX_BODY_CHARS} characters)"])


def _invalid(what: str) -> Refused:
    return Refused(422, f"Invalid request.\n\n{what}")


def _failed(field: str, code: str) -> Refused:
    return Refused(422, "Validation Failed", [{"resource": "CommitComment", "code": code, "field": field}])


def _spaced(field: str) -> str:
    return field.replace("_", " ")
