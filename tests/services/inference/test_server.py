import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import numpy as np
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from model.engine import Finding, ModelInfo, Probabilities
from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk
from model.labels import Severity
from services.errors import ConfigError
from services.inference.batcher import Batcher, Scored
from services.inference.reviewer import Malformed, Reviewer, numbered
from services.inference.server import MAX_MESSAGE_BYTES, SERVICE, InferenceServer, serve
from services.settings import InferenceSettings
from services.telemetry import Metrics
from tests.services.spans import PARENT, TRACE, TRACEPARENT, Collected, id_of, parent_of

NO_PROXY = (("grpc.enable_http_proxy", 0),)
SEVERITY: dict[str, Severity] = {"n": "nit", "b": "bug", "c": "critical", "h": "critical"}


class FakeEngine:
    """Windows of two added lines. A line's first letter is its finding's severity; `h` is one below its threshold."""

    info = ModelInfo("fake", "1", "digest", ("python",), "fake")

    def skip_reason(self, hunk: Hunk) -> str | None:
        return None if hunk.path.endswith(".py") else "language_not_taught"

    def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
        lines = [at for at, line in enumerate(hunk.lines) if line.kind == "add"]
        parts = [] if self.skip_reason(hunk) else [lines[at : at + 2] for at in range(0, len(lines), 2)]
        return tuple(Chunk(n, (np.ones(5, np.int32),) * len(part), tuple(part)) for n, part in enumerate(parts))

    def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        return [np.zeros((len(chunk.rows), 1), np.float32) for chunk in chunks]

    def findings(self, hunk: Hunk, chunks: Sequence[Chunk], scores: Sequence[Probabilities]) -> tuple[Finding, ...]:
        assert len(chunks) == len(scores)
        return tuple(
            Finding(
                path=hunk.path,
                line=line.new or 0,
                side="RIGHT",
                concept="concept",
                title="Title",
                text=f"about {line.text}",
                category="logic",
                severity=SEVERITY[line.text[0]],
                confidence=0.9,
                is_shown=line.text[0] != "h",
            )
            for line in hunk.lines
            if line.kind == "add" and line.text[:1] in SEVERITY
        )


class World:
    """A server on a port of its own; `gate` holds the engine until it is set."""

    def __init__(self, **settings: Any) -> None:
        self.metrics = Metrics()
        self.engine = FakeEngine()
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.batches: list[int] = []
        loop = asyncio.get_running_loop()
        self.batcher = Batcher(self.predict, InferenceSettings(**settings), self.metrics, loop)
        self.reviewer = Reviewer(self.engine, self.batcher, self.metrics, loop)
        self.server = InferenceServer(self.reviewer)

    async def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        self.batches.append(len(chunks))
        self.entered.set()
        await self.gate.wait()
        return self.engine.predict(chunks)


@pytest.fixture
async def world() -> World:
    return World(max_queue_ms=1)


@pytest.fixture
async def channel(world: World) -> AsyncIterator[grpc.aio.Channel]:
    options = (*NO_PROXY, ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES))
    async with (
        serve(world.server, "127.0.0.1:0") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel,
    ):
        yield channel


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> InferenceServiceStub:
    return InferenceServiceStub(channel)  # type: ignore[no-untyped-call]


def added(path: str, start: int, *texts: str) -> pb.Hunk:
    lines = [pb.Line(kind=pb.Line.KIND_ADDED, text=text) for text in texts]
    return pb.Hunk(path=path, old_start=start - 1, new_start=start, new_lines=len(texts), lines=lines)


async def test_findings_come_back_whole_with_the_chunk_of_their_file(stub: InferenceServiceStub) -> None:
    hunks = [
        added("a.py", 10, "bug one", "x", "x", "nit two"),
        added("b.py", 1, "bug three"),
        added("a.py", 30, "bug four"),
    ]
    answer = await stub.ReviewChunks(pb.ReviewChunksRequest(repository_id=1, commit_sha="c", hunks=hunks))
    assert [(each.path, each.line, each.chunk_index) for each in answer.findings] == [
        ("a.py", 10, 0),
        ("a.py", 13, 1),
        ("b.py", 1, 0),
        ("a.py", 30, 2),
    ]
    first = answer.findings[0]
    assert (first.side, first.concept, first.text, first.category) == ("RIGHT", "concept", "about bug one", "logic")
    assert (first.severity, first.is_shown) == ("bug", True)
    assert first.confidence == pytest.approx(0.9)
    assert (answer.model.name, answer.model.version, answer.model.digest) == ("fake", "1", "digest")
    assert answer.forward_s > 0
    assert answer.queue_s >= 0
    assert [(hunk.chunks, hunk.skipped) for hunk in answer.hunks] == [(2, ""), (1, ""), (1, "")]


async def test_a_call_leaves_one_line_and_one_span_under_its_callers_trace(world: World) -> None:
    collected = Collected()
    server = InferenceServer(world.reviewer, collected.tracing)
    metadata = (("traceparent", TRACEPARENT), ("delivery-id", "d-1"))
    with structlog.testing.capture_logs() as lines:
        async with (
            serve(server, "127.0.0.1:0") as port,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_PROXY) as channel,
        ):
            stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            await stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, "bug")]), metadata=metadata)
            await stub.ReviewChunks(pb.ReviewChunksRequest(), metadata=metadata)  # asks for the model alone
    span = collected.spans()["hunks review"]
    (line,) = [line for line in lines if line["event"] == "hunks.reviewed"]
    assert (line["delivery_id"], line["hunks"], line["findings"]) == ("d-1", 1, 1)
    assert line["traceparent"].split("-")[1:3] == [TRACE, id_of(span)]
    assert parent_of(span) == PARENT


async def test_without_a_collector_the_line_of_a_call_has_the_callers_traceparent(stub: InferenceServiceStub) -> None:
    with structlog.testing.capture_logs() as lines:
        await stub.ReviewChunks(
            pb.ReviewChunksRequest(hunks=[added("a.py", 1, "bug")]), metadata=(("traceparent", TRACEPARENT),)
        )
    assert [line["traceparent"] for line in lines if line["event"] == "hunks.reviewed"] == [TRACEPARENT]


async def test_hunks_no_model_read_are_counted_by_reason(stub: InferenceServiceStub) -> None:
    hunks = [added("a.rs", 1, "bug by a rule"), added("b.rs", 1, "x"), added("a.py", 1, "x")]
    answer = await stub.ReviewChunks(pb.ReviewChunksRequest(hunks=hunks))
    assert dict(answer.skipped) == {"language_not_taught": 2}
    assert [(hunk.chunks, hunk.skipped) for hunk in answer.hunks] == [
        (1, "language_not_taught"),
        (1, "language_not_taught"),
        (1, ""),
    ]
    assert [(each.path, each.chunk_index) for each in answer.findings] == [("a.rs", 0)]


async def test_a_call_without_hunks_says_which_model_serves(world: World, stub: InferenceServiceStub) -> None:
    answer = await stub.ReviewChunks(pb.ReviewChunksRequest())
    assert (answer.model.digest, len(answer.findings), world.batches) == ("digest", 0, [])


async def test_the_flat_fields_are_the_worst_finding_that_is_shown(stub: InferenceServiceStub) -> None:
    patch = "@@ -0,0 +5,3 @@\n+nit\n+bug\n+hidden\n@@ -20 +23 @@\n-x\n+critical"
    request = pb.ChunkRequest(
        repo="o/r", commit="c", filename="a.py", patch=patch, idempotency_key="k", received_at=12.5, chunk_index=4
    )
    answer = await stub.ReviewChunk(request)
    assert (answer.line, answer.severity, answer.severity_id) == (23, "critical", 3)
    assert (answer.category, answer.message) == ("logic", "about critical")
    assert (answer.repo, answer.commit, answer.filename) == ("o/r", "c", "a.py")
    assert (answer.idempotency_key, answer.received_at) == ("k", 12.5)
    assert [each.chunk_index for each in answer.findings] == [4, 4, 5, 6]


async def test_a_patch_without_findings_has_empty_flat_fields(stub: InferenceServiceStub) -> None:
    answer = await stub.ReviewChunk(pb.ChunkRequest(filename="a.py", patch="@@ -1 +1 @@\n-x\n+y"))
    assert (answer.line, answer.severity, answer.severity_id, answer.confidence) == (0, "", -1, 0)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.ChunkRequest(patch="@@ -1 +1 @@\n-x\n+y"), "filename: empty"),
        (
            pb.ChunkRequest(filename="a.py", patch="@@ -1 +1,2 @@\n-x\n+y"),
            "patch: line 4: the hunk of line 1 has fewer",
        ),
    ],
)
async def test_a_malformed_patch_is_refused_by_field(
    stub: InferenceServiceStub, request_: pb.ChunkRequest, message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReviewChunk(request_)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in (caught.value.details() or "")


async def test_malformed_hunks_are_refused_on_the_wire(stub: InferenceServiceStub) -> None:
    bad = pb.Hunk(path="a.py", new_start=1, new_lines=2, lines=[pb.Line(kind=pb.Line.KIND_ADDED, text="x")])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, "x"), bad]))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "hunks[1]: new_lines says 2, and the lines of that side are 1"


@pytest.mark.parametrize(
    ("hunk", "message"),
    [
        (pb.Hunk(new_start=1), "hunks[0].path: empty"),
        (
            pb.Hunk(path="a", new_start=1, new_lines=1, lines=[pb.Line(text="x")]),
            "hunks[0].lines[0].kind: 0 is none of",
        ),
        (
            pb.Hunk(path="a", new_start=1, new_lines=1, lines=[pb.Line(kind=pb.Line.KIND_ADDED, text="x\ny")]),
            "hunks[0].lines[0].text: holds a newline",
        ),
        (pb.Hunk(path="a", old_start=-5), "hunks[0]: old side: 0 lines from line -5 is no range of a file"),
    ],
)
def test_a_malformed_hunk_names_its_field(hunk: pb.Hunk, message: str) -> None:
    with pytest.raises(Malformed) as caught:
        numbered([hunk])
    assert message in str(caught.value)


async def test_a_hunk_of_twenty_thousand_lines_fits_in_a_message(stub: InferenceServiceStub) -> None:
    hunk = added("a.py", 1, *["bug " + "x" * 200] * 20_000)
    answer = await stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[hunk]))
    assert len(answer.findings) == 20_000
    assert answer.findings[-1].chunk_index == 9_999


async def test_a_full_queue_answers_resource_exhausted_with_a_time_to_come_back(
    world: World, stub: InferenceServiceStub
) -> None:
    world.gate.clear()
    request = pb.ReviewChunksRequest(hunks=[added("a.py", 1, *["x"] * 40)])
    first = asyncio.ensure_future(stub.ReviewChunks(request))
    await world.entered.wait()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ReviewChunks(request)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert [int(value) >= 1 for key, value in caught.value.trailing_metadata() or () if key == "retry-after-ms"] == [
        True
    ]
    world.gate.set()
    assert (await first).model.name == "fake"


async def test_a_call_that_its_caller_gave_up_never_reaches_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.gate.clear()
    queued, left = asyncio.Event(), asyncio.Event()
    submit = world.batcher.submit

    async def watched(chunks: Sequence[Chunk], deadline: float | None = None) -> Scored:
        if len(chunks) != 5:
            return await submit(chunks, deadline)
        asyncio.get_running_loop().call_soon(queued.set)
        try:
            return await submit(chunks, deadline)
        finally:
            left.set()

    monkeypatch.setattr(world.batcher, "submit", watched)
    async with (
        serve(world.server, "127.0.0.1:0") as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=NO_PROXY) as channel,
    ):
        stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        first = asyncio.ensure_future(stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, "x")])))
        await world.entered.wait()
        given_up = stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, *["x"] * 10)]))
        async with asyncio.timeout(30):
            await queued.wait()
            given_up.cancel()
            await left.wait()
        world.gate.set()
        await first
        await stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, *["x"] * 4)]))
    assert world.batches == [1, 2]


async def test_calls_in_progress_finish_after_the_server_is_told_to_stop(world: World) -> None:
    stop, bound = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with serve(world.server, "127.0.0.1:0") as port:
            bound.set_result(port)
            await stop.wait()

    world.gate.clear()
    server = asyncio.create_task(hold())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{await bound}", options=NO_PROXY) as channel:
        stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        call = asyncio.ensure_future(stub.ReviewChunks(pb.ReviewChunksRequest(hunks=[added("a.py", 1, "bug")])))
        await world.entered.wait()
        stop.set()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        world.gate.set()
        assert [finding.severity for finding in (await call).findings] == ["bug"]
    await server


async def test_a_taken_port_is_an_error(world: World) -> None:
    async with serve(world.server, "127.0.0.1:0") as port:
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            async with serve(world.server, f"127.0.0.1:{port}"):
                pass


async def test_health_and_reflection_answer(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = reflection.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    names = [service.name for service in (await call.read()).list_services_response.service]
    call.cancel()
    assert SERVICE in names
