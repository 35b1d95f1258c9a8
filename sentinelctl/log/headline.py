"""One line of what a record says. All text in it is safe for a terminal."""

from sentinel.v1.events_pb2 import DeadLetter, Event, ReviewReady, ReviewRequest

from sentinelctl.console import clean
from services import codec
from services.contract import NULL_SHA
from services.errors import Poison
from services.stream.types import Record

_MAX_MESSAGE = 160


def headline(record: Record) -> str:
    kind = codec.MESSAGES.get(record.topic)
    if kind is None:
        return f"{len(record.value)} bytes"
    try:
        message = codec.decode(kind, record.value)
    except Poison:
        return f"{len(record.value)} bytes that are no {kind.__name__}"
    match message:
        case Event():
            return about(message)
        case ReviewRequest():
            return _request(message)
        case ReviewReady():
            return _ready(message)
        case DeadLetter():
            return letter(message)
    raise AssertionError(f"{kind.__name__} has no headline")


def about(event: Event) -> str:
    """`octo/hello push main 1a2b3c4..5d6e7f8`, or `octo/hello pull #7 5d6e7f8 opened`."""
    words = [event.repository.full_name or "?"]
    if event.HasField("push"):
        push = event.push
        before = "new" if push.before == NULL_SHA else push.before[:7]
        words += ["push", push.ref.removeprefix("refs/heads/"), f"{before}..{push.after[:7]}"]
    elif event.HasField("pull_request"):
        pull = event.pull_request
        words += ["pull", f"#{pull.number}", pull.head_sha[:7], pull.action]
    else:
        words.append("of a kind this version does not know")
    if event.revision:
        words.append(f"(revision {event.revision})")
    return clean(" ".join(words))


def letter(found: DeadLetter) -> str:
    """`push-events 3:41, undecodable after 4 attempts: …`, or what became of an earlier letter."""
    if found.HasField("settled"):
        place = found.settled.place
        return clean(f"{place.partition}:{place.offset} was {found.settled.action}")
    message = " ".join(found.message.split())
    message = message if len(message) <= _MAX_MESSAGE else f"{message[: _MAX_MESSAGE - 1]}…"
    where = f"{found.topic} {found.partition}:{found.offset}"
    return clean(f"{where}, {found.reason} after {plural(found.attempts, 'attempt')}: {message}")


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _request(request: ReviewRequest) -> str:
    if not request.HasField("so_far"):
        return f"a piece: {plural(len(request.hunks), 'hunk')} of a head too large for one record"
    hunks = plural(len(request.hunks), "hunk") if not request.pieces else plural(len(request.pieces), "piece")
    return f"{about(request.so_far.event)}: {hunks} still to be read"


def _ready(review: ReviewReady) -> str:
    coverage = review.coverage
    shown = sum(one.is_shown for one in review.findings) + review.findings_cut
    return f"{about(review.event)}: {coverage.hunks_reviewed} of {plural(coverage.hunks, 'hunk')}, {shown} shown"
