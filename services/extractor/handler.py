"""One event in, one ReviewReady out; a ReviewRequest where inference does not take its hunks in time, and nothing where
the event ends as covered or superseded."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol, get_args

import structlog
from sentinel.v1.events_pb2 import Coverage, Event, ReviewReady, Timings

from services.codec import decode
from services.contract import Header, Outcome
from services.extractor.change import Change, Ended, Forge, find_change
from services.extractor.hunks import select
from services.extractor.look import Look
from services.extractor.overflow import overflow
from services.extractor.reviewer import Reviewed, Reviewer, Why
from services.review import add, ready
from services.settings import ExtractorSettings
from services.stream.base import Producer
from services.stream.types import NewRecord, Record
from services.telemetry import Metrics

_METADATA = (Header.TRACEPARENT, Header.DELIVERY_ID)
_MOMENT_S: Final = 0.25  # left to an event whose time is up: an idle server needs no more, a busy one refuses at once

_LOOK_S: Final = 0.5  # longest wait for what the publisher can ask as well

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
        look: Look,
        reviewer: Reviewer,
        producer: Producer,
        settings: ExtractorSettings,
        metrics: Metrics,
        *,
        max_record_bytes: int,
        wall_ns: Callable[[], int] = time.time_ns,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._forge, self._look, self._reviewer, self._producer = forge, look, reviewer, producer
        self._settings, self._metrics, self._max_record_bytes = settings, metrics, max_record_bytes
        self._wall_ns, self._clock = wall_ns, clock
        for outcome in (Outcome.COVERED, Outcome.SUPERSEDED):
            metrics.delivery_ended.labels(outcome)
        for why in get_args(Why):
            metrics.overflow.labels(why)
        metrics.hunks.labels("reviewed")

    async def handle(self, record: Record) -> Sequence[NewRecord]:
        started, taken_ns = self._clock(), self._wall_ns()
        event = decode(Event, record.value)
        with self._forge.stopwatch() as watch:
            change, unposted_at_ns = await self._find(event, age_s=(taken_ns - event.received_at_ns) / 1e9)
        if isinstance(change, Ended):
            self._metrics.delivery_ended.labels(change.outcome).inc()
            log.info("delivery.ended", outcome=change.outcome, reason=change.reason, repo=event.repository.full_name)
            return ()
        selection = await asyncio.to_thread(select, change.files, self._settings)
        hunks, left_out = selection.hunks, selection.skipped + Counter(change.unlisted)
        queue_s = max(0.0, taken_ns / 1e9 - record.timestamp_ms / 1e3)
        review = ReviewReady(
            event=event,
            commit_sha=change.commit_sha,
            coverage=Coverage(hunks=len(hunks) + left_out.total(), skipped=left_out),
            timings=Timings(queue_s=queue_s, github_s=watch.seconds),
            revision=event.revision,
            unposted_at_ns=unposted_at_ns,
        )
        asked, asked_at_ns = self._clock(), self._wall_ns()
        reviewed = await self._reviewer.review(
            event.repository.id,
            change.commit_sha,
            hunks,
            {name: record.headers[name].decode("ascii", "replace") for name in _METADATA if name in record.headers},
            within_s=max(_MOMENT_S, self._settings.overflow_after_s - queue_s),
        )
        review.timings.inference_s = self._clock() - asked
        read = len(hunks) - len(reviewed.left)
        add(review, read, reviewed.findings, reviewed.skipped or {}, reviewed.model, reviewed.forward_s)
        if reviewed.left:
            self._metrics.overflow.labels(reviewed.why).inc()
            new = await overflow(
                self._producer,
                record.key,
                review,
                reviewed.left,
                asked_at_ns=asked_at_ns,
                max_bytes=self._max_record_bytes,
            )
        else:
            new = ready(review, record.key, self._metrics, now_ns=self._wall_ns(), max_bytes=self._max_record_bytes)
        _tell(review, reviewed, seconds=self._clock() - started)
        return (new,)

    async def _find(self, event: Event, *, age_s: float) -> tuple[Change | Ended, int]:
        """What changed, and since when nothing was posted for it, asked side by side: see Look."""
        looking = asyncio.create_task(self._look.unposted_at_ns(event))
        try:
            change = await find_change(self._forge, event, age_s=age_s)
            done, _ = await asyncio.wait([looking], timeout=_LOOK_S if isinstance(change, Change) else 0)
            return change, looking.result() if done else 0
        finally:
            looking.cancel()


def _tell(review: ReviewReady, reviewed: Reviewed, *, seconds: float) -> None:
    about = {
        "repo": review.event.repository.full_name,
        "commit": review.commit_sha,
        "hunks": review.coverage.hunks,
        "skipped": dict(review.coverage.skipped),
        "findings": len(review.findings),
        "github_s": round(review.timings.github_s, 4),
        "inference_s": round(review.timings.inference_s, 4),
        "seconds": round(seconds, 4),
    }
    if reviewed.left:
        left = len(reviewed.left)
        log.warning("event.overflowed", hunks_left=left, reason=reviewed.why, error=reviewed.said, **about)
    else:
        log.info("event.extracted", **about)
