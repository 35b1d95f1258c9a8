import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.events_pb2 import Event, PushEvent, Repository, ReviewReady
from sentinel.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server

from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import serve
from services.codec import encode
from services.contract import Group, Topic
from services.settings import StreamSettings
from services.stream import open_admin, open_consumer, open_producer
from services.stream.types import NewRecord, Record


def git(path: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", str(path), *identity, *arguments], env=environ, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


class Inference(InferenceServiceServicer):
    def __init__(self) -> None:
        self.hunks_asked: list[int] = []

    async def ReviewChunks(
        self, request: pb.ReviewChunksRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> pb.ReviewChunksResponse:
        self.hunks_asked.append(len(request.hunks))
        findings = [pb.Finding(path=hunk.path, line=hunk.new_start, is_shown=True) for hunk in request.hunks]
        read = [pb.ReadHunk(chunks=1) for _ in request.hunks]
        return pb.ReviewChunksResponse(findings=findings, model=pb.Model(name="fake", digest="d"), hunks=read)


def environment(**variables: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")}
    return {**kept, **{f"SENTINEL_{name}": value for name, value in variables.items()}}


@pytest.mark.parametrize(
    ("variables", "words"),
    [({}, "SENTINEL_GITHUB_TOKEN"), ({"GITHUB_TOKEN": "t", "INFERENCE_TARGET": "nowhere"}, "HOST:PORT")],
)
def test_it_refuses_to_start_on_settings_that_cannot_work(
    tmp_path: Path, variables: dict[str, str], words: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.extractor"],
        env={**environment(**variables), "PYTHONPATH": str(Path.cwd())},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.e2e
async def test_a_push_becomes_a_review_ready_and_sigterm_ends_the_process(tmp_path: Path) -> None:
    """A real process between a real log, fakehub and a gRPC server; then SIGTERM: exit 0, nothing left uncommitted.

    The event comes twice, and its one hunk is inferred once: the second time, inference only says which model serves.
    """
    path = tmp_path / "sample"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    shas = []
    for content in ("one\n", "one\ntwo\n"):
        (path / "a.py").write_text(content)
        git(path, "add", "--all")
        git(path, "commit", "--quiet", "-m", "change")
        shas.append(git(path, "rev-parse", "HEAD"))
    hub = FakeHub([path], token="s3cret")
    served = hub.repositories[0]
    repository = Repository(id=served.id, full_name=served.full_name, default_branch="main")
    event = Event(
        delivery_id="guid", repository=repository, push=PushEvent(ref="refs/heads/main", before=shas[0], after=shas[1])
    )
    settings, log = StreamSettings(), tmp_path / "log.sqlite"
    admin, producer = open_admin(settings, log), open_producer(settings, log)
    await admin.create_topics(dict.fromkeys(Topic, 2))
    server, inference = grpc.aio.server(), Inference()
    add_InferenceServiceServicer_to_server(inference, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    reviews = open_consumer(settings, log, group="test", topic=Topic.REVIEWS)
    async with serve(hub) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "services.extractor",
            env=environment(
                GITHUB_TOKEN="s3cret",
                GITHUB_API_URL=url,
                STREAM_PATH=str(log),
                CLAIMS_PATH=str(tmp_path / "claims.sqlite"),
                INFERENCE_TARGET=f"127.0.0.1:{port}",
                EXTRACTOR_METRICS_PORT="0",
            ),
            stderr=asyncio.subprocess.PIPE,
        )
        new = NewRecord(Topic.PUSH_EVENTS, b"1", encode(event), {"delivery-id": b"guid"})
        await producer.append([new, new])
        records: list[Record] = []
        async with asyncio.timeout(60):
            while len(records) < 2:
                records += await reviews.poll(max_records=1, timeout_s=0.5)
                assert process.returncode is None
            process.send_signal(signal.SIGTERM)
            _, said = await process.communicate()
    review = ReviewReady.FromString(records[0].value)
    assert (review.commit_sha, review.coverage.hunks_reviewed) == (shas[1], 1)
    assert [finding.path for finding in review.findings] == ["a.py"]
    assert ReviewReady.FromString(records[1].value).findings == review.findings
    assert inference.hunks_asked == [1, 0]
    assert records[0].headers["delivery-id"] == b"guid"
    assert process.returncode == 0, said
    assert re.search(rb'"event.extracted".*"delivery_id":"guid"', said), said
    assert b"s3cret" not in said
    assert [lag.records for lag in await admin.lag(Group.EXTRACTOR, Topic.PUSH_EVENTS)] == [0, 0]
    await asyncio.gather(reviews.close(), producer.close(), admin.close(), server.stop(None))
