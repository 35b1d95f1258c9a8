"""One event in, one ReviewReady out; or none, where the event ends as covered or superseded."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

import structlog
from sentinel.v1.events_pb2 import Coverage, Event, ReviewReady, Timings

from services.codec import decode, encode
from services.contract import Header, Topic
from services.errors import Retryable
from services.extractor.change import Ended, Forge, find_change
from services.extractor.hunks import select
from services.extractor.reviewer import Reviewer
from services.settings import ExtractorSettings
from services.stream.types import NewRecord, Record
from services.telemetry import Metrics

_METADATA = (Header.TRACEPARENT, Header.DELIVERY_ID)

log = structlog.get_logger(__name__)


class Watch(Protocol):
    @property
    def seconds(self) -> float: ...


class TimedForge(Forge, Protocol):
    def stopwatch(self) -> AbstractContextManager[Watch]: ...


class Handler:
    """Safe to run twice for one record: nothing outside changes before the runner appends what it returns."""

    def __init__(
        self,
        forge: TimedForge,
        reviewer: Reviewer,
        settings: ExtractorSettings,
        metrics: Metrics,
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._forge, self._reviewer, self._settings, self._metrics = forge, reviewer, settings, metrics
        self._wall_ns, self._clock = wall_ns, clock

    async def handle(self, record: Record) -> Sequence[NewRecord]:
        started, taken_ns = self._clock(), self._wall_ns()
        event = decode(Event, record.value)
        with self._forge.stopwatch() as watch:
            change = await find_change(self._forge, event, age_s=(taken_ns - event.received_at_ns) / 1e9)
        if isinstance(change, Ended):
            self._metrics.delivery_ended.labels(change.outcome).inc()
            log.info("delivery.ended", outcome=change.outcome, reason=change.reason, repo=event.repository.full_name)
            return ()
        selection = await asyncio.to_thread(select, change.files, self._settings)
        metadata = {
            name: record.headers[name].decode("ascii", "replace") for name in _METADATA if name in record.headers
        }
        asked = self._clock()
        reviewed = await self._reviewer.review(event.repository.id, change.commit_sha, selection.hunks, metadata)
        inference_s = self._clock() - asked
        coverage = _coverage(len(selection.hunks), reviewed.skipped or {}, selection.skipped + Counter(change.unlisted))
        review = ReviewReady(
            event=event,
            commit_sha=change.commit_sha,
            findings=reviewed.findings,
            coverage=coverage,
            model=reviewed.model,
            timings=Timings(
                queue_s=max(0.0, taken_ns / 1e9 - record.timestamp_ms / 1e3),
                github_s=watch.seconds,
                inference_s=inference_s,
                forward_s=reviewed.forward_s,
                ready_at_ns=self._wall_ns(),
            ),
        )
        self._metrics.hunks.labels("reviewed").inc(coverage.hunks_reviewed)
        for reason, count in coverage.skipped.items():
            self._metrics.hunks.labels(reason).inc(count)
        log.info(
            "event.extracted",
            repo=event.repository.full_name,
            commit=change.commit_sha,
            hunks=coverage.hunks,
            skipped=dict(coverage.skipped),
            findings=len(reviewed.findings),
            github_s=round(watch.seconds, 4),
            inference_s=round(inference_s, 4),
            seconds=round(self._clock() - started, 4),
        )
        return (NewRecord(Topic.REVIEWS, record.key, encode(review)),)


def _coverage(sent: int, unread: Mapping[str, int], left_out: Counter[str]) -> Coverage:
    """Of all hunks: those read by the model, and the others by reason."""
    skipped = left_out + Counter(unread)
    reviewed = sent - sum(unread.values())
    if reviewed < 0:
        raise Retryable(f"inference says it skipped {sum(unread.values())} of {sent} hunks; run one version of both")
    coverage = Coverage(hunks=sent + left_out.total(), hunks_reviewed=reviewed, skipped=skipped)
    assert coverage.hunks == coverage.hunks_reviewed + sum(coverage.skipped.values())
    return coverage
