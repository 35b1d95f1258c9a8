"""What to post for one head: pure, from findings to the bodies GitHub shows."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal, cast

from sentinel.v1.events_pb2 import Coverage, ReviewReady
from sentinel.v1.inference_pb2 import Finding, Model

from services.contract import SEVERITIES
from services.github.types import Anchor, InlineComment
from services.key import marker
from services.publisher.markdown import clip, code, escape, prose
from services.settings import PublisherSettings

MAX_BODY_BYTES = 65_536
"""GitHub counts characters; bytes are never fewer."""
# At most: the tags around what is folded, its summary, and the count of what is not shown.
_FRAME_BYTES = 500
_MAX_TITLE, _MAX_TEXT, _MAX_WORD, _MAX_PATH = 200, 4_000, 60, 200


@dataclass(frozen=True, slots=True)
class Posting:
    """One review, or one commit comment when there are no inline comments. severities: of all findings in it."""

    body: str
    comments: tuple[InlineComment, ...]
    severities: tuple[str, ...]


def compose(
    ready: ReviewReady,
    settings: PublisherSettings,
    key: str,
    *,
    is_anchored: bool,
    refused: Collection[Anchor] = (),
) -> Posting:
    """The `max_comments` most severe findings stand on their lines, or in the body where lines cannot be had.

    is_anchored: False for a commit comment. refused: anchors of the pull request that GitHub does not take.
    """
    shown = sorted((f for f in ready.findings if f.is_shown and f.confidence >= settings.min_confidence), key=_rank)
    first = [f for f in shown if _severity(f) >= SEVERITIES.index(settings.min_severity) and _has_line(f)]
    first = first[: settings.max_comments]
    rest = [f for f in shown if not any(f is chosen for chosen in first)]
    on_lines = [f for f in first if is_anchored and (f.path, f.line, f.side) not in refused]
    in_body = [f for f in first if not any(f is placed for placed in on_lines)]

    head = [_coverage(ready.coverage)]
    if shown or ready.coverage.hunks_reviewed:
        head.append(_count(len(shown), len(on_lines), len(in_body) + len(rest)))
    if in_body and ready.event.HasField("pull_request"):
        these = (
            "the comment on this line, so it stands"
            if len(in_body) == 1
            else "the comments on these lines, so they stand"
        )
        head.append(f"GitHub did not take {these} here.")
    tail = [f"<sub>{_model(ready.model)}</sub>", marker(key)]

    room = MAX_BODY_BYTES - _size("\n\n".join(head + tail)) - _FRAME_BYTES
    blocks, room, hidden = _fit(map(_block, in_body), room)
    folded, _, hidden_too = _fit(_groups(rest), room)
    body = [*head, *blocks]
    if folded:
        body += [
            f"<details>\n<summary>{_findings(len(rest), more=bool(first))}</summary>",
            "\n".join(folded),
            "</details>",
        ]
    if not_shown := hidden + hidden_too + ready.findings_cut:
        body.append(f"{not_shown} more not shown: the comment would be too long.")
    return Posting(
        body="\n\n".join(body + tail),
        comments=tuple(_inline(f) for f in on_lines),
        severities=tuple(f.severity if f.severity in SEVERITIES else "unknown" for f in shown),
    )


def _rank(finding: Finding) -> tuple[int, float, str, int, str]:
    return (-_severity(finding), -finding.confidence, finding.path, finding.line, finding.concept)


def _severity(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity) if finding.severity in SEVERITIES else -1


def _has_line(finding: Finding) -> bool:
    """GitHub finds no file by a path whose bytes were no UTF-8."""
    is_path = bool(finding.path) and "\ufffd" not in finding.path
    return is_path and finding.line > 0 and finding.side in ("LEFT", "RIGHT")


def _coverage(coverage: Coverage) -> str:
    skipped = sum(coverage.skipped.values())
    line = f"{coverage.hunks_reviewed} of {_plural(coverage.hunks, 'hunk')} reviewed"
    if skipped:
        reasons = (f"{_word(reason)} {count}" for reason, count in sorted(coverage.skipped.items()) if count)
        line += f", {skipped} skipped ({', '.join(reasons)})"
    return f"{line}."


def _count(shown: int, on_lines: int, folded: int) -> str:
    if not shown:
        return "No findings."
    if not on_lines:
        return f"{_findings(shown)}."
    if not folded:
        return f"{_findings(shown)}, on {'its line' if shown == 1 else 'their lines'}."
    return f"{_findings(shown)}: {on_lines} on {'its line' if on_lines == 1 else 'their lines'}, {folded} below."


def _inline(finding: Finding) -> InlineComment:
    source = f"<sub>{_word(finding.category)} · {_confidence(finding)}</sub>"
    body = _paragraphs(_title(finding), _text(finding), source)
    return InlineComment(finding.path, finding.line, cast("Literal['LEFT', 'RIGHT']", finding.side), body)


def _block(finding: Finding) -> str:
    place = f"{_place(finding)} · {_word(finding.category)} · {_confidence(finding)}"
    return _paragraphs(_title(finding), place, _text(finding))


def _groups(findings: Sequence[Finding]) -> Iterator[str]:
    """The same remark is written once, with its places below it; `findings` come ranked."""
    order: dict[tuple[str, str, str], int] = {}
    for finding in findings:
        order.setdefault(_remark(finding), len(order))
    ranked = sorted(findings, key=lambda f: order[_remark(f)])
    for number, (_, group) in enumerate(groupby(ranked, key=_remark)):
        places = list(group)
        head = _paragraphs(f"{_title(places[0])} ({_word(places[0].category)})", _text(places[0])) + "\n\n"
        for position, finding in enumerate(places):
            before = "" if position else f"\n{head}" if number else head
            yield f"{before}- {_place(finding)} · {_confidence(finding)}"


def _remark(finding: Finding) -> tuple[str, str, str]:
    return (finding.severity, finding.title, finding.text)


def _fit(pieces: Iterable[str], room: int) -> tuple[list[str], int, int]:
    """Pieces while there is room (bytes), the room left, and how many found none."""
    taken: list[str] = []
    hidden = 0
    for piece in pieces:
        size = _size(piece) + 2
        if hidden or size > room:
            hidden += 1
        else:
            taken.append(piece)
            room -= size
    return taken, room, hidden


def _title(finding: Finding) -> str:
    return f"**{_word(finding.severity).capitalize()}: {prose(clip(' '.join(finding.title.split()), _MAX_TITLE))}**"


def _paragraphs(*paragraphs: str) -> str:
    return "\n\n".join(filter(None, paragraphs))


def _text(finding: Finding) -> str:
    return prose(clip(finding.text, _MAX_TEXT))


def _place(finding: Finding) -> str:
    path = finding.path if len(finding.path) <= _MAX_PATH else f"…{finding.path[1 - _MAX_PATH :]}"
    where = code(f"{path}:{finding.line}" if finding.line > 0 else path)
    return f"{where} (removed line)" if finding.side == "LEFT" else where


def _confidence(finding: Finding) -> str:
    return f"{round(100 * min(max(finding.confidence, 0.0), 1.0))}% confidence"


def _word(text: str) -> str:
    return escape(clip(text.replace("_", " "), _MAX_WORD))


def _model(model: Model) -> str:
    return f"{_word(model.name)} {_word(model.version)} · {_word(model.digest.removeprefix('sha256:')[:12])}"


def _findings(count: int, *, more: bool = False) -> str:
    return _plural(count, "more finding" if more else "finding")


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _size(text: str) -> int:
    return len(text.encode())
