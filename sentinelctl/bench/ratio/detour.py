"""The direct call and the detour through `diff-chunks`, side by side: same server, same log, same hunks, in turn.

What is timed is the way from hunks in hand to the moment at which a consumer of `reviews` has the review: for the
direct path the gRPC call and one append, for the detour an append, the worker's poll, its pass and its append. Both
end with the same poll of `reviews`. The only service is one real inference process.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
from sentinel.v1.events_pb2 import Coverage, ReviewReady, ReviewRequest, Timings
from sentinel.v1.inference_pb2 import Hunk, ReviewChunksRequest
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.inputs.diff import DiffError, parse_diff
from sentinelctl.beside import beside
from sentinelctl.demo.history import read_history
from sentinelctl.errors import SentinelError, UsageError
from sentinelctl.ledger import percentile
from sentinelctl.lifecycle import Project
from sentinelctl.review.change import Git
from services import codec
from services.contract import NULL_SHA, Group, Topic
from services.review import add, fits, hunk_message, ready
from services.settings import Settings
from services.stream import open_consumer, open_producer
from services.stream.base import Consumer, Producer
from services.stream.types import NewRecord, max_value_bytes
from services.telemetry import Metrics

PATHS: Final = ("direct", "detour")
_KEY: Final = b"1"
_WAIT_S: Final = 60.0
_MAX_CALL_BYTES: Final = 3 * 1024 * 1024  # as the extractor bounds a call


@dataclass
class Result:
    """total_ms and forward_ms: by path, one value a pair; the forward pass is the part that both have in common."""

    pairs: int
    heads: int
    hunks: int
    kind: str
    model: Mapping[str, str]
    total_ms: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})
    forward_ms: dict[str, list[float]] = field(default_factory=lambda: {path: [] for path in PATHS})

    def median(self, path: str) -> float:
        return percentile(self.total_ms[path], 50)

    def own(self, path: str) -> float:
        """Median without the forward pass."""
        pairs = zip(self.total_ms[path], self.forward_ms[path], strict=True)
        return percentile([total - forward for total, forward in pairs], 50)

    @property
    def ratio(self) -> float:
        """How many times as long the detour takes."""
        return self.median("detour") / self.median("direct")

    @property
    def own_ratio(self) -> float:
        """The same of the ways alone."""
        return self.own("detour") / self.own("direct")

    def document(self) -> dict[str, Any]:
        paths = {
            path: {
                "p50_ms": round(self.median(path), 3),
                "p95_ms": round(percentile(self.total_ms[path], 95), 3),
                "forward_p50_ms": round(percentile(self.forward_ms[path], 50), 3),
                "own_p50_ms": round(self.own(path), 3),
            }
            for path in PATHS
        }
        return {
            "version": 1,
            "pairs": self.pairs,
            "heads": self.heads,
            "hunks_p50": self.hunks,
            "log": self.kind,
            "model": dict(self.model),
            **paths,
            "ratio": round(self.ratio, 3),
            "own_ratio": round(self.own_ratio, 3),
        }


def measure(
    settings: Settings, repo: Path, *, pairs: int, warmup: int, max_hunks: int, tell: Callable[[int], None]
) -> Result:
    """`max_hunks`: of each head, 0 for all. `tell` is given the pairs done.

    Raises UsageError where the repository's commits hold nothing to review.
    """
    heads = [
        head[: max_hunks or None] for head in _heads(repo, pairs, max_value_bytes(settings.stream.max_record_bytes))
    ]
    with TemporaryDirectory(prefix="sentinel-bench-") as folder:
        project = Project(beside(settings, Path(folder)))
        try:
            (replica,) = project.bring_up(("inference",)).of("inference")
            address = f"127.0.0.1:{replica.ports['grpc']}"
            return asyncio.run(_measure(project.settings, address, heads, pairs, warmup, tell))
        finally:
            project.take_down()
            project.runtime.close()


def _heads(repo: Path, wanted: int, max_record_bytes: int) -> list[list[Hunk]]:
    """The hunks of each of the last commits; those that no single call and record takes are left out."""
    git = Git(repo)
    heads = []
    for push in read_history(repo, wanted).pushes:
        before = git.empty_tree() if push.before == NULL_SHA else push.before
        try:
            files = parse_diff(git.diff(before, push.after))
        except DiffError:
            continue
        hunks = [hunk_message(hunk) for file in files for hunk in file.hunks]
        request = ReviewRequest(hunks=hunks)
        room = min(max_record_bytes, _MAX_CALL_BYTES)
        if hunks and all(fits(hunk, room) for hunk in hunks) and request.ByteSize() <= room - 4096:
            heads.append(hunks)
    if not heads:
        raise UsageError(f"the last commits of {repo} hold no hunk to review", remedy="name another with --repo")
    return heads


async def _measure(
    settings: Settings,
    address: str,
    heads: Sequence[Sequence[Hunk]],
    pairs: int,
    warmup: int,
    tell: Callable[[int], None],
) -> Result:
    producer = open_producer(settings.stream, settings.stream_path)
    consumer = open_consumer(settings.stream, settings.stream_path, group=Group.PUBLISHER, topic=Topic.REVIEWS)
    options = (("grpc.enable_http_proxy", 0),)
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        timer = _Timer(stub, producer, consumer, max_value_bytes(settings.stream.max_record_bytes))
        ways = {"direct": timer.direct, "detour": timer.detour}
        counts = [float(len(head)) for head in heads]
        result = Result(pairs, len(heads), int(percentile(counts, 50)), settings.stream.kind, {})
        try:
            await timer.join()
            for number in range(-warmup, pairs):
                hunks = heads[number % len(heads)]
                for path in PATHS if number % 2 else PATHS[::-1]:
                    began = time.perf_counter()
                    review = await ways[path](hunks)
                    total_ms = (time.perf_counter() - began) * 1000
                    if number >= 0:
                        result.total_ms[path].append(total_ms)
                        result.forward_ms[path].append(review.timings.forward_s * 1000)
                tell(max(0, number + 1))
        finally:
            await consumer.close()
            await producer.close()
    result.model = {"name": review.model.name, "version": review.model.version, "digest": review.model.digest}
    return result


class _Timer:
    def __init__(self, stub: InferenceServiceStub, producer: Producer, consumer: Consumer, max_bytes: int) -> None:
        self._stub, self._producer, self._consumer, self._max_bytes = stub, producer, consumer, max_bytes
        self._metrics = Metrics()

    async def join(self) -> None:
        """Owns the partitions of `reviews` when it returns."""
        while not self._consumer.assignment():
            await self._consumer.poll(max_records=1, timeout_s=1.0)

    async def direct(self, hunks: Sequence[Hunk]) -> ReviewReady:
        answer = await self._stub.ReviewChunks(ReviewChunksRequest(repository_id=1, hunks=hunks))
        review = self._review(hunks)
        add(review, len(hunks), answer.findings, answer.skipped, answer.model, answer.forward_s)
        now_ns = time.time_ns()
        await self._producer.append([ready(review, _KEY, self._metrics, now_ns=now_ns, max_bytes=self._max_bytes)])
        return await self._arrived()

    async def detour(self, hunks: Sequence[Hunk]) -> ReviewReady:
        request = ReviewRequest(so_far=self._review(hunks), hunks=hunks, asked_at_ns=time.time_ns())
        await self._producer.append([NewRecord(Topic.DIFF_CHUNKS, _KEY, codec.encode(request))])
        return await self._arrived()

    async def _arrived(self) -> ReviewReady:
        deadline = time.monotonic() + _WAIT_S
        while time.monotonic() < deadline:
            if records := await self._consumer.poll(max_records=1, timeout_s=1.0):
                return codec.decode(ReviewReady, records[0].value)
        raise SentinelError(
            f"no review came within {_WAIT_S:g} s", remedy="the machine is too busy to time anything; try again later"
        )

    @staticmethod
    def _review(hunks: Sequence[Hunk]) -> ReviewReady:
        return ReviewReady(coverage=Coverage(hunks=len(hunks)), timings=Timings())
