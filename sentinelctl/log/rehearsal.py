"""Past events through the present model, beside the installation: nothing of it can post.

An extractor and an inference server of its own work over a log of its own, in a folder that is gone afterwards. There
is no publisher, so a review ends in that log, where it is read.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sentinel.v1.events_pb2 import DeadLetter, Event, ReviewReady, ReviewRequest

from sentinelctl.beside import beside
from sentinelctl.lifecycle import Project
from sentinelctl.log.past import Past, Unit, again, unit
from sentinelctl.log.reading import following, kept, looking, records_of
from sentinelctl.logline import fields
from sentinelctl.readiness import probe_fault
from services import codec
from services.contract import READERS, Outcome, Topic
from services.settings import Settings
from services.stream import open_producer
from services.stream.types import Record

UNFINISHED: Final = "unfinished"


@dataclass(frozen=True, slots=True)
class Said:
    """What would become of one event today: an outcome with its reason, and what would be posted."""

    past: Past
    outcome: str
    reason: str = ""
    review: ReviewReady | None = None

    def document(self) -> dict[str, Any]:
        """`review` in the names of the `reviews` topic."""
        event = self.past.event
        number = event.pull_request.number if event.HasField("pull_request") else None
        review = {} if self.review is None else codec.to_json(Topic.REVIEWS, codec.encode(self.review))
        return {
            "delivery_id": event.delivery_id,
            "repository": event.repository.full_name,
            "pull": number,
            "sha": event.push.after if number is None else event.pull_request.head_sha,
            "outcome": self.outcome,
            "reason": self.reason,
            "coverage": review.get("coverage"),
            "findings": review.get("findings", []),
            "model": review.get("model"),
        }


def rehearse(
    settings: Settings, pasts: Sequence[Past], *, timeout_s: float, tell: Callable[[Said], None]
) -> list[Said]:
    """One answer for each event, told as it is known; `unfinished` for those that time ran out on.

    Raises PreflightError and UnhealthyError as `up` does.
    """
    with TemporaryDirectory(prefix="sentinel-replay-") as folder:
        project = Project(beside(settings, Path(folder)))
        try:
            project.bring_up(("inference", "extractor"))
            return asyncio.run(_watch(project, pasts, timeout_s, tell))
        finally:
            project.take_down()
            project.runtime.close()


async def _watch(project: Project, pasts: Sequence[Past], timeout_s: float, tell: Callable[[Said], None]) -> list[Said]:
    settings = project.settings
    left = {unit(past.event): past for past in pasts}
    found: list[Said] = []

    def ended(said: Said) -> None:
        if left.pop(unit(said.past.event), None) is not None:
            found.append(said)
            tell(said)

    producer = open_producer(settings.stream, settings.stream_path)
    try:
        await producer.append([again(past) for past in pasts])
    finally:
        await producer.close()
    why_not = await _until_done(settings, lambda record: _said(record, left), ended, project, timeout_s)
    by_delivery = {past.delivery_id: past for past in left.values()}
    for line in _lines(project):
        if line.get("event") == "delivery.ended" and line.get("delivery_id") in by_delivery:
            ended(Said(by_delivery[line["delivery_id"]], line["outcome"], line["reason"]))
    for past in list(left.values()):
        ended(Said(past, UNFINISHED, why_not))
    return found


async def _until_done(
    settings: Settings,
    read: Callable[[Record], Said | None],
    ended: Callable[[Said], None],
    project: Project,
    timeout_s: float,
) -> str:
    """Why it stopped before everything was worked off; empty when everything was."""
    deadline = time.monotonic() + timeout_s
    is_done = False
    async with looking(settings) as admin:
        topics = (Topic.REVIEWS, Topic.DEAD_LETTERS)
        starts = {one.position: one.start for topic in topics for one in await kept(admin, topic)}
        async with aclosing(following(admin, starts)) as news:
            async for records in news:
                for record in records:
                    if (said := read(record)) is not None:
                        ended(said)
                if is_done:  # by now everything that followed has been read
                    return ""
                if _has_halted(project):
                    return "everything fails, so the extractor halted; `sentinelctl doctor --online` checks the token"
                if time.monotonic() > deadline:
                    return f"not done after {timeout_s:g} s; GitHub may be slow, or its limit used up"
                lags = [await admin.lag(READERS[topic], topic) for topic in (Topic.PUSH_EVENTS, Topic.DIFF_CHUNKS)]
                is_done = not any(records_of(one) for one in lags)
    raise AssertionError("following() never ends")


def _said(record: Record, left: Mapping[Unit, Past]) -> Said | None:
    """What a record of the run's own log says of one of the events."""
    if record.topic == Topic.REVIEWS:
        review = codec.decode(ReviewReady, record.value)
        past = left.get(unit(review.event))
        return None if past is None else Said(past, Outcome.REVIEWED, "", review)
    letter = codec.decode(DeadLetter, record.value)
    if letter.topic == Topic.PUSH_EVENTS:
        event = codec.decode(Event, letter.value)
    else:
        event = codec.decode(ReviewRequest, letter.value).so_far.event
    past = left.get(unit(event))
    return None if past is None else Said(past, Outcome.DEAD_LETTERED, f"{letter.reason}: {letter.message}")


def _has_halted(project: Project) -> bool:
    """The log is read only when a probe says that something is wrong."""
    is_well = not any(probe_fault(project.runtime, replica) for replica in project.runtime.observe().replicas)
    return not is_well and any(line.get("event") == "consumer.halted" for line in _lines(project))


def _lines(project: Project) -> Iterator[dict[str, Any]]:
    replicas = [one.name for one in project.runtime.observe().replicas]
    return (fields(line.text) for line in project.runtime.logs(replicas, lines=1_000_000))
