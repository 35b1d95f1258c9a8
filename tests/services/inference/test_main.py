"""One real replica with the shipped weights: it starts, answers, and drains on SIGTERM."""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
from sentinel.v1 import inference_pb2 as pb
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

NO_PROXY = (("grpc.enable_http_proxy", 0),)


async def start(state: Path, **settings: str) -> asyncio.subprocess.Process:
    """`state`: the folder of its log."""
    environment = {f"SENTINEL_INFERENCE_{key.upper()}": value for key, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.inference"),
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "SENTINEL_INFERENCE_METRICS_PORT": "0",
            "SENTINEL_PROJECT_STATE_DIR": str(state),
            **environment,
        },
    )


async def until(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    """The first log line of that event."""
    assert process.stderr is not None
    seen = []
    async for line in process.stderr:
        if not line.startswith(b"{"):
            continue  # gRPC's own core has its own format
        entry: dict[str, Any] = json.loads(line)
        if entry["event"] == event:
            return entry
        seen.append(entry)
    raise AssertionError(f"{event} never came; seen: {seen}")


@pytest.mark.e2e
@pytest.mark.parametrize("has_log", [True, False])
async def test_a_replica_answers_with_and_without_a_log_shows_its_metrics_and_drains_on_sigterm(
    tmp_path: Path, has_log: bool
) -> None:
    if not has_log:
        (tmp_path / "state").write_text("a file where the folder should be")
    process = await start(tmp_path / "state", port="0", threads="1")
    try:
        started = await until(process, "inference.started")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{started['port']}", options=NO_PROXY) as channel:
            stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
            patch = "@@ -0,0 +1,3 @@\n+try:\n+    run()  # TODO: mend\n+except: \n"
            answer = await stub.ReviewChunk(pb.ChunkRequest(filename="a.py", patch=patch))
        assert {"todo_left", "trailing_whitespace"} <= {finding.concept for finding in answer.findings}
        assert len(answer.model.digest) == 64
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{started['metrics_port']}", trust_env=False
        ) as client:
            assert (await client.get("/ready")).status_code == 200
            metrics = (await client.get("/metrics")).text
        assert ('sentinel_bus_errors_total{operation="poll",topic="diff-chunks"} 0.0' in metrics) is has_log
        assert "sentinel_inference_latency_seconds_count 1.0" in metrics
        assert "sentinel_batch_size_count 1.0" in metrics
        process.send_signal(signal.SIGTERM)
        await until(process, "inference.stopped")
        await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("settings", "messages"),
    [
        ({"port": "0", "weights": "/nonexistent"}, ["no model at /nonexistent/manifest.json", "inference.weights"]),
        ({"port": "0", "engine": "tensorflow"}, ["inference.engine"]),
    ],
)
async def test_a_replica_that_cannot_serve_says_why_and_exits_2(
    tmp_path: Path, settings: dict[str, str], messages: list[str]
) -> None:
    process = await start(tmp_path, **settings)
    refused = await until(process, "inference.refused")
    await process.communicate()
    assert process.returncode == 2
    for message in messages:
        assert message in refused["error"]


@pytest.mark.e2e
async def test_a_taken_port_is_refused_by_name(tmp_path: Path) -> None:
    holder = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with holder:
        port = holder.sockets[0].getsockname()[1]
        process = await start(tmp_path, port=str(port))
        refused = await until(process, "inference.refused")
        await process.communicate()
    assert process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in refused["error"]
    assert "inference.port" in refused["error"]
