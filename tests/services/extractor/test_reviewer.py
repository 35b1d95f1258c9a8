import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server

from model.inputs.diff import Hunk, parse_patch
from services.errors import ConfigError, Poison, Retryable
from services.extractor.hunks import hunk_bytes
from services.extractor.reviewer import (
    MAX_CALL_BYTES,
    MAX_CALL_LINES,
    PAUSE_S,
    GrpcReviewer,
    Reviewed,
    Targets,
    calls,
    resolve,
)

HUNKS = parse_patch("@@ -1,2 +1,2 @@ def f():\n a\n-b\n+c\r\n@@ -9 +9 @@\n-x\n+ÿ", "a.py")
Behaviour = Callable[[pb.ReviewChunksRequest, Any], Awaitable[None]]


class Inference(InferenceServiceServicer):
    """One finding for each hunk, unless `behaviour` ends the call first."""

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour
        self.requests: list[pb.ReviewChunksRequest] = []
        self.metadata: dict[str, str] = {}
        self.address = ""

    async def ReviewChunks(self, request: pb.ReviewChunksRequest, context: Any) -> pb.ReviewChunksResponse:
        self.requests.append(request)
        self.metadata = dict(context.invocation_metadata())
        if self.behaviour:
            await self.behaviour(request, context)
        return pb.ReviewChunksResponse(
            findings=[pb.Finding(path=hunk.path, line=hunk.new_start) for hunk in request.hunks],
            model=pb.Model(name="fake"),
            skipped={"language_not_taught": 1},
            forward_s=0.5,
            hunks=[pb.ReadHunk(chunks=1) for _ in request.hunks],
        )


def one_line(path: str, width: int) -> Hunk:
    return Hunk(path, 0, 0, 1, 1, "", parse_patch(f"@@ -0,0 +1 @@\n+{'x' * width}", "")[0].lines)


def aborts(code: grpc.StatusCode) -> Behaviour:
    async def abort(_: pb.ReviewChunksRequest, context: Any) -> None:
        await context.abort(code, "as told")

    return abort


@asynccontextmanager
async def serving(*replicas: Inference) -> AsyncIterator[str]:
    servers = []
    for replica in replicas:
        server = grpc.aio.server()
        add_InferenceServiceServicer_to_server(replica, server)  # type: ignore[no-untyped-call]
        replica.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        servers.append(server)
    try:
        yield ",".join(replica.address for replica in replicas)
    finally:
        for server in servers:
            await server.stop(None)


@asynccontextmanager
async def reviewing(target: str, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[GrpcReviewer]:
    reviewer = GrpcReviewer(Targets(target), clock)
    try:
        yield reviewer
    finally:
        await reviewer.close()


async def ask(reviewer: GrpcReviewer, hunks: Sequence[Hunk] = HUNKS, within_s: float = 30) -> Reviewed:
    return await reviewer.review(5, "b" * 40, hunks, {"delivery-id": "guid"}, within_s=within_s)


@pytest.fixture
def dead() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


async def test_hunks_arrive_whole_and_findings_come_back() -> None:
    inference = Inference()
    async with serving(inference) as target, reviewing(target) as reviewer:
        reviewed = await ask(reviewer)
    assert [finding.line for finding in reviewed.findings] == [1, 9]
    assert (reviewed.model.name if reviewed.model else "", reviewed.forward_s) == ("fake", 0.5)
    assert reviewed.skipped == {"language_not_taught": 1}
    assert reviewed.hunks == (pb.ReadHunk(chunks=1), pb.ReadHunk(chunks=1))
    assert inference.metadata["delivery-id"] == "guid"
    (request,) = inference.requests
    assert (request.repository_id, request.commit_sha) == (5, "b" * 40)
    first = request.hunks[0]
    assert (first.path, first.old_start, first.old_lines, first.new_start, first.new_lines, first.section) == (
        "a.py",
        1,
        2,
        1,
        2,
        "def f():",
    )
    assert [(line.kind, line.text) for line in first.lines] == [
        (pb.Line.KIND_CONTEXT, "a"),
        (pb.Line.KIND_DELETED, "b"),
        (pb.Line.KIND_ADDED, "c\r"),
    ]


async def test_without_hunks_nobody_is_asked(dead: str) -> None:
    async with reviewing(dead) as reviewer:
        assert (await ask(reviewer, ())).findings == ()


async def test_the_model_that_serves_is_asked_for_without_hunks() -> None:
    inference = Inference()
    async with serving(inference) as target, reviewing(target) as reviewer:
        assert await reviewer.model({"delivery-id": "guid"}, within_s=30) == pb.Model(name="fake")
    assert inference.requests == [pb.ReviewChunksRequest()]
    assert inference.metadata["delivery-id"] == "guid"


async def test_no_model_serves_where_nobody_listens_or_nobody_answers_in_time(dead: str) -> None:
    async def hang(_: pb.ReviewChunksRequest, context: Any) -> None:
        await asyncio.Event().wait()

    async with serving(Inference(hang)) as target:
        for replicas in (dead, target):
            async with reviewing(replicas) as reviewer:
                assert await reviewer.model({}, within_s=0.1) is None


async def test_replicas_take_turns() -> None:
    one, two = Inference(), Inference()
    async with serving(one, two) as target, reviewing(target) as reviewer:
        for _ in range(6):
            await ask(reviewer)
    assert (len(one.requests), len(two.requests)) == (3, 3)


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.RESOURCE_EXHAUSTED]
)
async def test_a_call_that_one_replica_cannot_take_goes_to_another(code: grpc.StatusCode) -> None:
    bad, good = Inference(aborts(code)), Inference()
    async with serving(bad, good) as target, reviewing(target) as reviewer:
        for _ in range(2):
            assert len((await ask(reviewer)).findings) == 2
    assert len(bad.requests) == 1
    assert len(good.requests) == 2


async def test_a_dead_replica_costs_no_review(dead: str) -> None:
    inference = Inference()
    async with serving(inference) as target, reviewing(f"{dead},{target}") as reviewer:
        for _ in range(4):
            await ask(reviewer)
    assert len(inference.requests) == 4


async def test_hunks_that_nobody_is_there_to_take_come_back(dead: str) -> None:
    async with reviewing(dead) as reviewer:
        reviewed = await ask(reviewer)
    assert (reviewed.left, reviewed.why) == (HUNKS, "unreachable")
    assert f"{dead}: UNAVAILABLE" in reviewed.said


async def test_hunks_that_every_replica_is_too_busy_for_come_back() -> None:
    replicas = [Inference(aborts(grpc.StatusCode.RESOURCE_EXHAUSTED)) for _ in range(2)]
    async with serving(*replicas) as target, reviewing(target) as reviewer:
        reviewed = await ask(reviewer)
    assert (reviewed.left, reviewed.why) == (HUNKS, "busy")
    assert all(replica.address in reviewed.said for replica in replicas)


async def hang(_: pb.ReviewChunksRequest, __: Any) -> None:
    await asyncio.Event().wait()


async def test_hunks_whose_answer_does_not_come_in_time_come_back() -> None:
    async with serving(Inference(hang)) as target, reviewing(target) as reviewer:
        reviewed = await ask(reviewer, within_s=0.05)
    assert (reviewed.left, reviewed.why) == (HUNKS, "late")


async def test_the_calls_of_one_change_share_its_time_and_what_was_answered_is_kept() -> None:
    now = 0.0

    async def work(request: pb.ReviewChunksRequest, context: Any) -> None:
        nonlocal now
        now += 6
        if len(inference.requests) == 2:
            await hang(request, context)

    hunks = [one_line(f"{at}.py", 2_000_000) for at in range(4)]
    inference = Inference(work)
    async with serving(inference) as target, reviewing(target, lambda: now) as reviewer:
        reviewed = await ask(reviewer, hunks, within_s=6.05)
    assert len(inference.requests) == 2
    assert [finding.path for finding in reviewed.findings] == ["0.py"]
    assert (reviewed.left, reviewed.skipped) == (tuple(hunks[1:]), {"language_not_taught": 1})


async def test_a_silent_replica_is_left_alone_until_one_call_finds_it_well() -> None:
    now = 0.0
    well = False

    async def work(request: pb.ReviewChunksRequest, context: Any) -> None:
        nonlocal now
        if not well:
            now += 5
            await hang(request, context)

    inference = Inference(work)
    async with serving(inference) as target, reviewing(target, lambda: now) as reviewer:
        assert (await ask(reviewer, within_s=0.05)).why == "late"
        passed_by = await ask(reviewer)
        assert (passed_by.left, passed_by.why, len(inference.requests)) == (HUNKS, "unreachable", 1)
        now += PAUSE_S
        well = True
        for _ in range(2):
            assert (await ask(reviewer)).left == ()
    assert len(inference.requests) == 3


async def test_a_replica_that_still_says_no_is_not_silent() -> None:
    now, asked = 0.0, asyncio.Event()

    async def work(request: pb.ReviewChunksRequest, context: Any) -> None:
        nonlocal now
        if len(inference.requests) == 1:
            now = 5.0
            asked.set()
            await hang(request, context)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later")

    inference = Inference(work)
    async with serving(inference) as target, reviewing(target, lambda: now) as reviewer:
        late = asyncio.create_task(ask(reviewer, within_s=0.5))
        await asked.wait()
        assert (await ask(reviewer)).why == "busy"
        assert (await late).why == "late"
        assert (await ask(reviewer)).why == "busy"
    assert len(inference.requests) == 3


async def test_hunks_that_inference_refuses_are_poison() -> None:
    refuse = Inference(aborts(grpc.StatusCode.INVALID_ARGUMENT))
    async with serving(refuse) as target, reviewing(target) as reviewer:
        with pytest.raises(Poison, match="as told") as caught:
            await ask(reviewer)
    assert caught.value.reason == "inference_refused"


async def test_a_failure_inside_inference_uses_up_a_retry() -> None:
    async with serving(Inference(aborts(grpc.StatusCode.INTERNAL))) as target, reviewing(target) as reviewer:
        with pytest.raises(Retryable, match="INTERNAL as told"):
            await ask(reviewer)


async def test_a_large_change_takes_several_calls_and_adds_up() -> None:
    hunks = [one_line(f"{at}.py", 1_000_000) for at in range(7)]
    inference = Inference()
    async with serving(inference) as target, reviewing(target) as reviewer:
        reviewed = await ask(reviewer, hunks)
    assert [len(request.hunks) for request in inference.requests] == [3, 3, 1]
    assert [finding.path for finding in reviewed.findings] == [f"{at}.py" for at in range(7)]
    assert (reviewed.forward_s, reviewed.skipped) == (1.5, {"language_not_taught": 3})


@given(shapes=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5000), st.integers(1, 400)), max_size=12))
def test_calls_keep_order_files_bytes_and_lines(shapes: list[tuple[int, int, int]]) -> None:
    hunks = [
        Hunk(str(path), 0, 0, 1, lines, "", parse_patch("@@ -0,0 +1 @@\n+" + "x" * width, "")[0].lines * lines)
        for path, lines, width in sorted(shapes)
    ]
    parts = calls(hunks)
    assert [hunk for part in parts for hunk in part] == hunks
    paths = [{hunk.path for hunk in part} for part in parts]
    assert sum(map(len, paths)) == len(set().union(*paths))
    for part, names in zip(parts, paths, strict=True):
        is_within = (
            sum(map(hunk_bytes, part)) <= MAX_CALL_BYTES and sum(len(hunk.lines) for hunk in part) <= MAX_CALL_LINES
        )
        assert is_within or len(names) == 1


@pytest.mark.parametrize(
    "target",
    [
        "",
        ",",
        "host",
        "host:",
        "host:0",
        "host:65536",
        "http://host:1",
        "a b:1",
        "127.0.0.1:1,oops",
        "dns:",
        "dns:inference",
        "dns:a:0",
    ],
)
def test_what_is_no_address_is_refused_at_the_start(target: str) -> None:
    with pytest.raises(ConfigError, match=r"inference\.target"):
        Targets(target)


async def test_addresses_come_in_a_list() -> None:
    assert await Targets(" a.example:1, [::1]:2 ,a.example:1").current() == ("a.example:1", "[::1]:2")


@dataclass
class Names:
    """A name server that one test writes, and how often it was asked."""

    has: list[str]
    asked: int = 0
    fault: OSError | None = None

    async def resolve(self, host: str, port: int) -> list[str]:
        assert (host, port) == ("inference", 7)
        self.asked += 1
        if self.fault:
            raise self.fault
        return list(self.has)


async def looked_up(targets: Targets) -> tuple[str, ...]:
    """What is known once the look that this call begins is over."""
    await targets.current()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return await targets.current()


async def test_a_name_is_asked_for_again_each_second_and_gives_all_its_addresses() -> None:
    now, names = 0.0, Names(["10.0.0.1:7"])
    targets = Targets("dns:inference:7", lambda: now, names.resolve)
    assert await targets.current() == ("10.0.0.1:7",)
    names.has = ["10.0.0.2:7", "10.0.0.3:7"]
    now = 0.9
    assert await looked_up(targets) == ("10.0.0.1:7",)
    now = 1.0
    assert await looked_up(targets) == ("10.0.0.2:7", "10.0.0.3:7")
    assert names.asked == 2


async def test_a_name_server_that_fails_leaves_what_was_known() -> None:
    now, names = 0.0, Names(["10.0.0.1:7"])
    targets = Targets("dns:inference:7", lambda: now, names.resolve)
    assert await targets.current() == ("10.0.0.1:7",)
    names.fault = socket.gaierror(socket.EAI_AGAIN, "try again")
    now = 1.0
    assert await looked_up(targets) == ("10.0.0.1:7",)
    names.fault, names.has = None, ["10.0.0.2:7"]
    now = 2.0
    assert await looked_up(targets) == ("10.0.0.2:7",)


async def test_a_name_that_nobody_knows_yet_has_no_addresses_and_is_asked_for_again() -> None:
    now, names = 0.0, Names([], fault=socket.gaierror(socket.EAI_NONAME, "unknown"))
    targets = Targets("dns:inference:7", lambda: now, names.resolve)
    assert await targets.current() == ()
    names.fault, names.has = None, ["10.0.0.1:7"]
    assert await targets.current() == ()
    now = 1.0
    assert await targets.current() == ("10.0.0.1:7",)


async def test_the_system_gives_each_address_of_a_name_once() -> None:
    assert await resolve("127.0.0.1", 7) == ["127.0.0.1:7"]
    assert await resolve("::1", 7) == ["[::1]:7"]


async def test_a_file_of_addresses_is_read_again_when_it_changes_and_at_most_once_a_second(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "targets"
    targets = Targets(f"file:{path}", clock=lambda: now)
    assert await targets.current() == ()
    path.write_text("a:1\n\nb:2\n")
    assert await targets.current() == ()
    now = 1.0
    assert await targets.current() == ("a:1", "b:2")
    now = 2.0
    path.write_text("not an address, half written")
    assert await targets.current() == ("a:1", "b:2")
    now = 3.0
    path.write_text("c:3\n")
    os.utime(path, ns=(1, 1))
    assert await targets.current() == ("c:3",)
    now = 4.0
    path.unlink()
    assert await targets.current() == ("c:3",)


async def test_replicas_that_come_and_go_are_followed(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "targets"
    one, two = Inference(), Inference()
    async with serving(one, two):
        reviewer = GrpcReviewer(Targets(f"file:{path}", clock=lambda: now))
        assert "no inference replica is known" in (await ask(reviewer)).said
        for replica in (one, two):
            now += 1
            path.write_text(replica.address)
            os.utime(path, ns=(int(now), int(now)))
            await ask(reviewer)
        await reviewer.close()
    assert (len(one.requests), len(two.requests)) == (1, 1)
