"""Dead letters: which of them wait for somebody, and the records that put them back or give them up.

The topic is only ever appended to: a letter is settled by a later record that names its place, since neither log can
delete one record. Two people who retry a letter at once put it back twice, which its idempotency key makes harmless.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sentinel.v1.events_pb2 import DeadLetter, Place, Settled

from sentinelctl.errors import UsageError
from sentinelctl.log.reading import since
from services import codec
from services.contract import Header, Topic
from services.errors import Poison
from services.stream.base import Admin
from services.stream.types import NewRecord, Record

Action = Literal["retried", "purged"]

UNREADABLE = "unreadable"
"""The reason of a letter that another version wrote and this one cannot decode."""


@dataclass(frozen=True, slots=True)
class Letter:
    record: Record
    content: DeadLetter

    @property
    def id(self) -> str:
        """Partition and offset in reviews-dlq."""
        return f"{self.record.partition}:{self.record.offset}"

    @property
    def delivery_id(self) -> str:
        return self.record.headers.get(Header.DELIVERY_ID, b"").decode(errors="replace")

    def document(self) -> dict[str, Any]:
        content = self.content
        return {
            "id": self.id,
            "reason": content.reason,
            "message": content.message,
            "topic": content.topic,
            "partition": content.partition,
            "offset": content.offset,
            "attempts": content.attempts,
            "group": content.group,
            "service_version": content.service_version,
            "delivery_id": self.delivery_id,
            "first_failed_at_ns": content.first_failed_at_ns,
            "last_failed_at_ns": content.last_failed_at_ns,
        }


async def waiting(admin: Admin) -> list[Letter]:
    """Letters that nobody settled, the oldest first."""
    found: list[Letter] = []
    settled: set[tuple[int, int]] = set()
    for record in await since(admin, Topic.DEAD_LETTERS):
        try:
            content = codec.decode(DeadLetter, record.value)
        except Poison as exc:
            content = DeadLetter(reason=UNREADABLE, message=str(exc))
        if content.HasField("settled"):
            settled.add((content.settled.place.partition, content.settled.place.offset))
        else:
            found.append(Letter(record, content))
    return [one for one in found if (one.record.partition, one.record.offset) not in settled]


def chosen(
    letters: Sequence[Letter], ids: Sequence[str], *, reason: str | None, topic: str | None, limit: int | None
) -> list[Letter]:
    """Those named and matching, at most `limit` of the oldest. Raises UsageError for an id that waits for nobody."""
    by_id = {one.id: one for one in letters}
    for name in ids:
        if name not in by_id:
            raise UsageError(
                f"no dead letter {name!r} waits",
                remedy="it was settled or its time in the log is over; `sentinelctl dlq list` shows what waits",
            )
    found = [by_id[name] for name in dict.fromkeys(ids)] if ids else list(letters)
    found = [one for one in found if reason in (None, one.content.reason) and topic in (None, one.content.topic)]
    return found[:limit]


def put_back(letter: Letter) -> list[NewRecord]:
    """Its record as it was, in the topic it came from, with the attempts so far; and the letter settled.

    The bytes are the same, so the idempotency key of what they lead to is too. Raises UsageError when it holds none.
    """
    content = letter.content
    if not content.topic:
        raise UsageError(
            f"the dead letter {letter.id} holds no record that this version can put back: {content.message}",
            remedy="retry it with the version that wrote it, or purge it",
        )
    headers = {one.name: one.value for one in content.headers}
    headers[Header.ATTEMPT] = str(content.attempts).encode()
    return [NewRecord(content.topic, content.key, content.value, headers), settled(letter, "retried")]


def settled(letter: Letter, action: Action) -> NewRecord:
    """In the letter's partition, so that no reader sees it before the letter."""
    place = Place(partition=letter.record.partition, offset=letter.record.offset)
    value = codec.encode(DeadLetter(settled=Settled(place=place, action=action)))
    return NewRecord(Topic.DEAD_LETTERS, letter.record.key, value)
