"""Drains `diff-chunks`: heads whose call came too late are read by the same batcher, at the log's pace."""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from sentinel.v1.events_pb2 import ReviewRequest
from sentinel.v1.inference_pb2 import Hunk

from services.codec import decode
from services.errors import Deferred, Poison, Retryable
from services.inference.batcher import Overloaded
from services.inference.reviewer import Malformed, Reviewer, numbered
from services.review import add, ready
from services.stream.base import Admin
from services.stream.types import NewRecord, Record, TopicPartition
from services.telemetry import Metrics

log = structlog.get_logger(__name__)


class Handler:
    """One ReviewRequest in, one ReviewReady out. Safe to run twice: it changes nothing outside."""

    def __init__(
        self,
        reviewer: Reviewer,
        admin: Admin,
        metrics: Metrics,
        *,
        max_record_bytes: int,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._reviewer, self._admin, self._metrics = reviewer, admin, metrics
        self._max_record_bytes, self._wall_ns = max_record_bytes, wall_ns

    async def handle(self, record: Record) -> Sequence[NewRecord]:
        request = decode(ReviewRequest, record.value)
        if not request.HasField("so_far"):
            return ()  # a piece: the record that names it comes later
        messages = [*request.hunks, *await self._pieces(record.topic, request)]
        review = request.so_far
        try:
            hunks = await asyncio.to_thread(numbered, messages)
            reviewed = await self._reviewer.review(hunks)
        except Malformed as exc:
            raise Poison("malformed_request", f"the hunks make no sense: {exc}") from exc
        except Overloaded as exc:
            raise Deferred(str(exc), retry_after_s=exc.retry_after_s) from exc
        except Exception as exc:
            raise Retryable(f"the engine failed on {len(messages)} hunks: {exc!r}") from exc
        add(review, len(hunks), reviewed.findings, reviewed.skipped, self._reviewer.model, reviewed.scored.forward_s)
        now_ns = self._wall_ns()
        review.timings.inference_s = max(0.0, (now_ns - request.asked_at_ns) / 1e9)
        log.info(
            "overflow.reviewed",
            repo=review.event.repository.full_name,
            commit=review.commit_sha,
            hunks=len(hunks),
            findings=len(reviewed.findings),
            inference_s=round(review.timings.inference_s, 4),
        )
        return (ready(review, record.key, self._metrics, now_ns=now_ns, max_bytes=self._max_record_bytes),)

    async def _pieces(self, topic: str, request: ReviewRequest) -> list[Hunk]:
        """The hunks of the records that this one names. Raises Poison where the retention dropped one."""
        hunks: list[Hunk] = []
        for place in request.pieces:
            found = await self._admin.read(TopicPartition(topic, place.partition), place.offset, 1)
            if not found or found[0].offset != place.offset:
                raise Poison(
                    "pieces_gone",
                    f"the hunks at {topic} {place.partition}:{place.offset} are no longer in the log, which keeps "
                    "records for stream.retention_h; `sentinelctl replay --delivery` gets them from GitHub again",
                )
            hunks += decode(ReviewRequest, found[0].value).hunks
        return hunks
