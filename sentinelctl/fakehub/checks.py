"""Check runs, and what GitHub refuses in one. A run never leaves its commit, and its annotations only grow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sentinelctl.fakehub.rules import Refused

MAX_ANNOTATIONS = 50
MAX_TEXT_CHARS = 65_535
MAX_MESSAGE_BYTES = 64 * 1024

_STATUSES = ("queued", "in_progress", "completed")
_CONCLUSIONS = ("action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out")
_LEVELS = ("notice", "warning", "failure")
_TEXTS = ("name", "details_url", "external_id", "status", "started_at", "conclusion", "completed_at")
_KEYS = (*_TEXTS, "output", "actions")
_NEEDED = ("path", "start_line", "end_line", "annotation_level", "message")
_ANNOTATION_KEYS = (*_NEEDED, "start_column", "end_column", "title", "raw_details")


@dataclass
class CheckRun:
    id: int
    head_sha: str
    name: str
    started_at: str
    status: str = "queued"
    conclusion: str | None = None
    completed_at: str | None = None
    external_id: str = ""
    details_url: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    annotations: list[Mapping[str, Any]] = field(default_factory=list)

    def update(self, request: Mapping[str, Any], now: str) -> None:
        """What `check_run` let pass. A conclusion completes the run, as GitHub has it. now: as GitHub writes times."""
        for name in _TEXTS:
            if request.get(name) is not None:
                setattr(self, name, request[name])
        if request.get("conclusion") is not None:
            self.status = "completed"
            self.completed_at = request.get("completed_at") or now
        elif "status" in request:
            self.conclusion = self.completed_at = None
        output = request.get("output") or {}
        for name in ("title", "summary", "text"):
            if name in output:
                setattr(self, name, output[name])
        self.annotations.extend(output.get("annotations") or [])


def check_run(request: Any, *, is_new: bool) -> None:
    """Refused when the body of POST or PATCH …/check-runs is none that GitHub takes."""
    keys = ("head_sha", *_KEYS) if is_new else _KEYS
    _is_object(request, keys, ("name", "head_sha") if is_new else (), "")
    for name in (*_TEXTS, "head_sha"):
        if not isinstance(request.get(name), str | None):
            raise _invalid(f"For 'properties/{name}', {request[name]!r} is not a string.")
    for name, allowed in (("status", _STATUSES), ("conclusion", _CONCLUSIONS)):
        if request.get(name) is not None and request[name] not in allowed:
            raise _invalid(f"{request[name]!r} is not a member of {list(allowed)}.")
    is_over = request.get("status") == "completed" or request.get("completed_at") is not None
    if is_over and request.get("conclusion") is None:
        raise _invalid('"conclusion" wasn\'t supplied.')
    if request.get("output") is not None:
        _check_output(request["output"])


def _check_output(output: Any) -> None:
    _is_object(output, ("title", "summary", "text", "annotations", "images"), ("title", "summary"), "output/")
    for name in ("title", "summary", "text"):
        text = output.get(name)
        if not isinstance(text, str | None):
            raise _invalid(f"For 'properties/output/{name}', {text!r} is not a string.")
        if text is not None and name != "title" and len(text) > MAX_TEXT_CHARS:
            raise _invalid(f"Only {MAX_TEXT_CHARS} characters are allowed in output/{name}; {len(text)} were supplied.")
    annotations = output.get("annotations") or []
    if not isinstance(annotations, list):
        raise _invalid("For 'properties/output/annotations', an array is needed.")
    if len(annotations) > MAX_ANNOTATIONS:
        raise _invalid(f"No more than {MAX_ANNOTATIONS} items are allowed; {len(annotations)} were supplied.")
    for one in annotations:
        _check_annotation(one)


def _check_annotation(one: Any) -> None:
    _is_object(one, _ANNOTATION_KEYS, _NEEDED, "output/annotations/")
    lines = (one["start_line"], one["end_line"])
    if not all(isinstance(line, int) and not isinstance(line, bool) and line >= 1 for line in lines):
        raise _invalid(f"{lines} are no line numbers.")
    if lines[0] > lines[1]:
        raise _invalid("start_line must not be after end_line.")
    if lines[0] != lines[1] and (one.get("start_column") is not None or one.get("end_column") is not None):
        raise _invalid("start_column and end_column are for annotations of one line.")
    if one["annotation_level"] not in _LEVELS:
        raise _invalid(f"{one['annotation_level']!r} is not a member of {list(_LEVELS)}.")
    for name, most in (("message", MAX_MESSAGE_BYTES), ("raw_details", MAX_MESSAGE_BYTES), ("title", 255)):
        text = one.get(name)
        if not isinstance(text, str | None) or len((text or "").encode()) > most:
            raise _invalid(f"For 'properties/output/annotations/{name}', a string of at most {most} bytes is needed.")


def _is_object(value: Any, keys: tuple[str, ...], needed: tuple[str, ...], place: str) -> None:
    if not isinstance(value, dict):
        raise _invalid(f"{value!r} is not an object.")
    for name in value:
        if name not in keys:
            raise _invalid(f'"{place}{name}" is not a permitted key.')
    for name in needed:
        if value.get(name) is None:
            raise _invalid(f'"{place}{name}" wasn\'t supplied.')


def _invalid(what: str) -> Refused:
    return Refused(422, f"Invalid request.\n\n{what}")
