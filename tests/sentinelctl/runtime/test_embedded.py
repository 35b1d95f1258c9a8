"""Shows on real processes that what is started runs, comes back after a crash, outlives its supervisor and ends."""

import json
import os
import signal
import socket
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import islice
from pathlib import Path

import pytest

from sentinelctl.errors import PreflightError, SentinelError, UnhealthyError
from sentinelctl.plan import plan
from sentinelctl.readiness import wait_ready
from sentinelctl.runtime.embedded import EmbeddedRuntime
from sentinelctl.state import Kind, ObservedState, Operation, Replica, ServiceSpec

from .conftest import Bench, eventually, fake

pytestmark = pytest.mark.e2e


def environment_of(runtime: Bench, name: str) -> dict[str, str]:
    with urllib.request.urlopen(runtime.replica(name).probe, timeout=10) as answer:
        found: dict[str, str] = json.loads(answer.read())
    return found


def addresses(runtime: Bench, tmp_path: Path) -> list[str]:
    return (tmp_path / "state/endpoints/fake").read_text(encoding="utf-8").split()


def test_nothing_runs_before_the_first_start(tmp_path: Path) -> None:
    assert EmbeddedRuntime(tmp_path / "state").observe() == ObservedState()
    assert not (tmp_path / "state").exists()


def test_a_second_convergence_changes_nothing(runtime: Bench) -> None:
    assert runtime.converge(fake(replicas=2)) == ["start fake-1", "start fake-2"]
    before = {one.pid for one in runtime.observe().replicas}
    assert runtime.converge(fake(replicas=2)) == []
    assert {one.pid for one in runtime.observe().replicas} == before


def test_a_replica_knows_its_name_its_port_and_its_secret_and_no_file_holds_the_secret(
    runtime: Bench, tmp_path: Path
) -> None:
    runtime.converge(fake(SENTINEL_COLOUR="blue"))
    assert environment_of(runtime, "fake-1") == {
        "SENTINEL_COLOUR": "blue",
        "SENTINEL_TOKEN": "hunter2",
        "SENTINEL_REPLICA": "fake-1",
        "SENTINEL_FAKE_PORT": str(runtime.replica("fake-1").ports["http"]),
    }
    for path in (tmp_path / "state").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_the_addresses_of_the_replicas_are_written_down_and_withdrawn(runtime: Bench, tmp_path: Path) -> None:
    runtime.converge(fake(replicas=2))
    assert addresses(runtime, tmp_path) == [one.address for one in runtime.observe().replicas]
    runtime.converge(fake(replicas=1))
    assert addresses(runtime, tmp_path) == [runtime.replica("fake-1").address]


def test_a_changed_setting_replaces_the_process(runtime: Bench) -> None:
    runtime.converge(fake(SENTINEL_COLOUR="blue"))
    assert runtime.converge(fake(SENTINEL_COLOUR="red")) == ["replace fake-1"]
    assert environment_of(runtime, "fake-1")["SENTINEL_COLOUR"] == "red"
    assert len(runtime.alive()) == 1


def test_a_killed_replica_comes_back_on_its_port(runtime: Bench) -> None:
    runtime.converge(fake())
    before = runtime.replica("fake-1")
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    eventually(lambda: runtime.replica("fake-1").restarts == 1 and runtime.replica("fake-1").pid is not None)
    after = runtime.replica("fake-1")
    assert (after.ports, after.last_exit, after.failures) == (before.ports, "SIGKILL", 1)
    wait_ready(runtime, ["fake-1"], 60)


def test_a_crash_loop_is_shown_with_its_last_words(runtime: Bench) -> None:
    broken = replace(fake(), command=(sys.executable, "-S", "-c", "import sys; sys.exit('no weights')"))
    runtime.apply(Operation(Kind.START, "fake", 1, "test", broken))
    with pytest.raises(UnhealthyError, match=r"(?s)crash-loop: exit 1.*no weights"):
        wait_ready(runtime, ["fake-1"], 60)


def test_a_command_that_is_not_there_is_a_crash_too(runtime: Bench) -> None:
    runtime.apply(Operation(Kind.START, "fake", 1, "test", ServiceSpec("fake", ("/no/such/program",))))
    assert "No such file" in runtime.replica("fake-1").last_exit


def test_a_stop_lets_the_process_finish(runtime: Bench) -> None:
    runtime.converge(fake())
    applied = runtime.apply(Operation(Kind.STOP, "fake", 1, "test"))
    assert not applied.was_killed
    assert "fake.stopped" in [json.loads(line.text)["event"] for line in runtime.logs({"fake-1"}, lines=10)]
    assert runtime.observe() == ObservedState()


def test_what_does_not_drain_is_killed_and_said_so(runtime: Bench) -> None:
    runtime.converge(fake(grace_s=0.1, SENTINEL_STUBBORN="1"))
    assert runtime.apply(Operation(Kind.STOP, "fake", 1, "test")).was_killed
    assert not runtime.alive()


def test_replicas_survive_a_killed_supervisor_and_are_adopted_without_a_pause(runtime: Bench) -> None:
    runtime.converge(fake(replicas=2))
    pids = {one.pid for one in runtime.observe().replicas}
    runtime.kill_supervisor()
    assert {(one.pid in pids, one.is_supervised) for one in runtime.observe().replicas} == {(True, False)}
    assert runtime.converge(fake(replicas=2)) == ["adopt fake-1", "adopt fake-2"]
    assert {one.pid for one in runtime.observe().replicas} == pids

    first = runtime.replica("fake-1")
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: runtime.replica("fake-1").pid not in (None, first.pid))
    wait_ready(runtime, ["fake-1"], 60)
    assert environment_of(runtime, "fake-1")["SENTINEL_TOKEN"] == "hunter2"


def test_what_a_killed_supervisor_left_can_be_stopped(runtime: Bench) -> None:
    runtime.converge(fake(replicas=2))
    runtime.kill_supervisor()
    runtime.clear()
    assert not runtime.alive()
    assert runtime.observe() == ObservedState()


def test_what_ended_together_with_its_supervisor_is_started_anew(runtime: Bench) -> None:
    runtime.converge(fake())
    pid = runtime.replica("fake-1").pid
    assert pid is not None
    runtime.kill_supervisor()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not runtime.alive())
    assert runtime.converge(fake()) == ["start fake-1"]


def test_a_supervisor_that_is_told_to_end_drains_what_it_watches(runtime: Bench) -> None:
    runtime.converge(fake(replicas=2))
    pid = runtime.observe().supervisor_pid
    assert pid is not None
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: runtime.observe() == ObservedState())
    assert not runtime.alive()


def test_a_taken_port_is_named_with_its_holder_before_anything_starts(runtime: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        spec = fake(port=holder.getsockname()[1])
        with pytest.raises(PreflightError) as caught:
            runtime.check(plan([spec], runtime.observe()))
    assert f"fake needs port {spec.ports[0].number}" in caught.value.message
    assert f"pid {os.getpid()}" in caught.value.message
    assert "SENTINEL_FAKE_PORT" in caught.value.remedy
    assert runtime.observe() == ObservedState()


def test_one_port_for_two_services_is_refused(runtime: Bench, free_port: int) -> None:
    with pytest.raises(PreflightError, match="are both"):
        runtime.check(plan([fake("a", port=free_port), fake("b", port=free_port)], ObservedState()))


def test_only_the_first_replica_has_the_fixed_port(runtime: Bench, free_port: int) -> None:
    runtime.converge(fake(replicas=2, port=free_port))
    ports = [one.ports["http"] for one in runtime.observe().replicas]
    assert ports[0] == free_port
    assert ports[1] != free_port


def test_use_is_measured_for_each_replica(runtime: Bench) -> None:
    runtime.converge(fake(replicas=2))
    found = runtime.usage(over_s=0.01)
    assert set(found) == {"fake-1", "fake-2"}
    assert all(one.memory_bytes > 1024 * 1024 for one in found.values())


def test_logs_are_merged_by_time_and_followed(runtime: Bench, tmp_path: Path) -> None:
    runtime.converge(fake(replicas=2))
    lines = runtime.logs({"fake-1", "fake-2"}, lines=10, follow=True)
    told = [json.loads(line.text)["ts"] for line in islice(lines, 4)]
    assert told == sorted(told)
    with (tmp_path / "state/logs/fake-2.log").open("a", encoding="utf-8") as log:
        log.write("one more\n")
    assert next(lines).text == "one more"


def test_a_service_is_followed_with_the_replicas_that_come_later(runtime: Bench, tmp_path: Path) -> None:
    runtime.converge(fake())
    lines = runtime.logs({"fake"}, lines=1, follow=True)
    next(lines)
    (tmp_path / "state/logs/fake-2.log").write_text("born\n", encoding="utf-8")
    (tmp_path / "state/logs/other-1.log").write_text("of another service\n", encoding="utf-8")
    assert next(line for line in lines if line.replica != "fake-1").text == "born"


def test_what_lies_in_the_folder_of_the_command_is_not_imported(
    runtime: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('imported from the working folder')\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert runtime.converge(fake()) == ["start fake-1"]


def test_a_supervisor_of_another_version_is_told_apart_from_one_that_died(runtime: Bench) -> None:
    runtime.converge(fake())
    with pytest.raises(SentinelError, match=r"of another version: .*levitate"):
        runtime._ask({"do": "levitate"})


def test_a_deep_state_folder_has_room_for_the_socket_elsewhere(tmp_path: Path) -> None:
    bench = Bench(tmp_path / ("deep" * 20) / ("deeper" * 10))
    try:
        bench.converge(fake())
    finally:
        bench.clear()
    assert not bench.alive()


@pytest.fixture
def answering() -> Iterator[Callable[[int], str]]:
    """A probe URL that answers this status."""
    servers: list[HTTPServer] = []

    def start(status: int) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path == "/ready" else 404)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        server = HTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/ready"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def answer_fault(probe: str) -> str:
    return EmbeddedRuntime(Path("unused")).answer_fault(Replica("a", 1, {}, pid=1, probe=probe))


@pytest.mark.parametrize(("status", "expected"), [(200, ""), (503, "not-ready")])
def test_a_probe_decides(answering: Callable[[int], str], status: int, expected: str) -> None:
    fault = answer_fault(answering(status))
    assert fault.partition(":")[0] == expected


def test_nobody_listening_is_not_ready() -> None:
    fault = answer_fault("http://127.0.0.1:1/ready")
    assert fault.startswith("not-ready: http://127.0.0.1:1/ready: ")
