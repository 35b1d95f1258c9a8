"""The inference server against the engine called directly, in pairs: the same calls, and what lies between them.

Both have the same weights and threads, and run in turn. The direct side is one loop in this process that hands the
engine one call's hunks after the other; the server is a real process, kept busy over gRPC with a few calls in flight.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import grpc
from sentinel.v1.inference_pb2 import ReviewChunksRequest
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.engine import Engine, review
from sentinelctl.bench.calls import Call, batches, hunks_of, loaded, mean_batch, pack
from sentinelctl.bench.ratio.load import Spread
from sentinelctl.beside import beside
from sentinelctl.errors import UsageError
from sentinelctl.ledger import percentile
from sentinelctl.lifecycle import Project
from services.review import hunk_message
from services.settings import Settings

MIN_RATIO: Final = 0.85
_LONE_CALLS: Final = 200
_CALIBRATE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds for the same calls."""

    server_s: float
    direct_s: float

    @property
    def ratio(self) -> float:
        """Throughput of the server over that of the direct call."""
        return self.direct_s / self.server_s


@dataclass
class Result:
    """calls, chunks, tokens: of one run. lone_ms: by side, one hunk at a time. batch: chunks a pass had."""

    model: str
    engine: str
    in_flight: int
    calls: int
    chunks: int
    tokens: int
    pairs: list[Pair] = field(default_factory=list)
    lone_ms: dict[str, list[float]] = field(default_factory=lambda: {"server": [], "direct": []})
    batch: float = 0.0

    @property
    def ratio(self) -> Spread:
        return Spread.of([pair.ratio for pair in self.pairs])

    def faults(self) -> list[str]:
        """What keeps the result from being good; empty when it is."""
        ratio = self.ratio.median
        return [] if ratio >= MIN_RATIO else [f"the ratio is {ratio:.2f}, below {MIN_RATIO:g}"]

    def document(self) -> dict[str, Any]:
        seconds = {"server": [pair.server_s for pair in self.pairs], "direct": [pair.direct_s for pair in self.pairs]}
        sides = {
            name: {
                "chunks_per_s": Spread.of([self.chunks / each for each in took]).document(),
                "tokens_per_s": Spread.of([self.tokens / each for each in took]).document(),
                "lone_p50_ms": round(percentile(self.lone_ms[name], 50), 3),
                "lone_p99_ms": round(percentile(self.lone_ms[name], 99), 3),
            }
            for name, took in seconds.items()
        }
        return {
            "version": 1,
            "model": self.model,
            "engine": self.engine,
            "cores": os.cpu_count(),
            "calls": self.calls,
            "chunks": self.chunks,
            "tokens": self.tokens,
            "in_flight": self.in_flight,
            "mean_batch": round(self.batch, 2),
            **sides,
            "pairs": [round(pair.ratio, 4) for pair in self.pairs],
            "ratio": self.ratio.document(),
            "faults": self.faults(),
        }


def measure(
    settings: Settings,
    repo: Path,
    *,
    pairs: int,
    seconds: float,
    in_flight: int,
    tell: Callable[[Pair], None],
) -> Result:
    """`seconds`: about as long as the direct side of a pair takes. `tell` is given each pair as it ends.

    Raises UsageError where the repository's commits hold nothing that the model reads.
    """
    engine = loaded(settings)
    calls = pack(engine, hunks_of(repo), settings.inference.max_batch)
    if not calls:
        raise UsageError(f"the last commits of {repo} hold no line that the model reads", remedy="name another --repo")
    work = _enough(engine, calls, seconds)
    info = engine.info
    result = Result(
        f"{info.name} {info.version}",
        info.engine,
        in_flight,
        len(work),
        sum(call.chunks for call in work),
        sum(call.tokens for call in work),
    )
    with TemporaryDirectory(prefix="sentinel-bench-") as folder:
        project = Project(beside(settings, Path(folder)))
        try:
            (replica,) = project.bring_up(("inference",)).of("inference")
            asyncio.run(_measure(result, engine, work, replica.ports, pairs, tell))
        finally:
            project.take_down()
            project.runtime.close()
    return result


def _enough(engine: Engine, calls: Sequence[Call], seconds: float) -> list[Call]:
    """As many calls, over and over, as the engine does in that time; this also warms it up."""
    began, done = time.perf_counter(), 0
    for call in cycle(calls):
        review(engine, call.hunks)
        done += 1
        if (elapsed_s := time.perf_counter() - began) >= _CALIBRATE_S:
            break
    return list(islice(cycle(calls), max(1, round(done * seconds / elapsed_s))))


async def _measure(
    result: Result,
    engine: Engine,
    work: Sequence[Call],
    ports: Mapping[str, int],
    pairs: int,
    tell: Callable[[Pair], None],
) -> None:
    options = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{ports['grpc']}", options=options) as channel:
        stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        requests = [call.request for call in work]
        await _serve(stub, requests[: result.in_flight], result.in_flight)
        for number in range(pairs):
            server_s = await _serve(stub, requests, result.in_flight) if number % 2 else 0.0
            direct_s = _call_directly(engine, work)
            pair = Pair(server_s or await _serve(stub, requests, result.in_flight), direct_s)
            result.pairs.append(pair)
            tell(pair)
        result.batch = mean_batch(batches(ports["metrics"]))
        for hunk in islice(cycle([hunk for call in work for hunk in call.hunks]), _LONE_CALLS):
            request = ReviewChunksRequest(repository_id=1, hunks=[hunk_message(hunk)])
            began = time.perf_counter()
            await stub.ReviewChunks(request)
            between = time.perf_counter()
            review(engine, [hunk])
            result.lone_ms["server"].append((between - began) * 1000)
            result.lone_ms["direct"].append((time.perf_counter() - between) * 1000)


def _call_directly(engine: Engine, work: Sequence[Call]) -> float:
    began = time.perf_counter()
    for call in work:
        review(engine, call.hunks)
    return time.perf_counter() - began


async def _serve(stub: Any, requests: Sequence[ReviewChunksRequest], in_flight: int) -> float:
    """Seconds until the last answer; each of `in_flight` callers sends its next request when it has its answer.

    What the server does not take for now is asked again, as its clients do.
    """
    left: Iterator[ReviewChunksRequest] = iter(requests)

    async def caller() -> None:
        for request in left:
            await answered(request)

    async def answered(request: ReviewChunksRequest) -> None:
        while True:
            try:
                await stub.ReviewChunks(request)
                return
            except grpc.aio.AioRpcError as exc:
                if exc.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                told: Any = exc.trailing_metadata()
            await asyncio.sleep(float(dict(told)["retry-after-ms"]) / 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(in_flight):
            callers.create_task(caller())
    return time.perf_counter() - began
