"""Each answer from both sources: /proc, and the ps and lsof that macOS has."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest

from sentinelctl.runtime import process
from sentinelctl.runtime.process import (
    cpu_and_memory,
    free_ports,
    is_same,
    port_fault,
    send_signal,
    start_token,
)


@pytest.fixture(params=["/proc", "ps and lsof"], autouse=True)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "/proc" and sys.platform != "linux":
        pytest.skip("only Linux has /proc")
    if request.param != "/proc" and not (shutil.which("ps") and shutil.which("lsof")):
        pytest.skip("ps and lsof are not both installed; macOS has them")
    monkeypatch.setattr(process, "_IS_LINUX", request.param == "/proc")
    return str(request.param)


def test_a_process_is_told_from_another_with_its_pid() -> None:
    token = start_token(os.getpid())
    assert token is not None
    assert is_same(os.getpid(), token)
    assert not is_same(os.getpid(), token + "0")


def test_a_pid_that_changed_hands_is_never_signalled() -> None:
    assert not send_signal(os.getpid(), "of an earlier process", signal.SIGKILL)


def test_the_process_that_was_meant_is_signalled() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        assert send_signal(child.pid, start_token(child.pid) or "", signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    assert start_token(child.pid) is None
    assert cpu_and_memory(child.pid) is None


def test_a_zombie_counts_as_ended() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.read()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_token(child.pid) is None
    child.stdout.close()
    child.wait()


def test_use_is_in_seconds_and_bytes() -> None:
    seen = cpu_and_memory(os.getpid())
    assert seen is not None
    seconds, resident = seen
    assert seconds >= 0
    assert 5 * 1024 * 1024 < resident < 64 * 1024**3


def test_what_a_process_started_counts_with_it() -> None:
    alone = cpu_and_memory(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "print('up', flush=True); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both, child_alone = cpu_and_memory(os.getpid()), cpu_and_memory(child.pid)
        child.kill()
    assert alone is not None
    assert both is not None
    assert child_alone is not None
    assert both[1] >= alone[1] + child_alone[1] // 2


def test_a_taken_port_is_named_with_its_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        fault = port_fault("127.0.0.1", holder.getsockname()[1])
    assert fault.startswith(f"taken by pid {os.getpid()} ("), fault
    assert "python" in fault


def test_a_port_that_is_taken_on_every_address_is_taken() -> None:
    with socket.create_server(("0.0.0.0", 0)) as holder:
        assert port_fault("127.0.0.1", holder.getsockname()[1]).startswith("taken by ")


def test_a_free_port_has_no_fault() -> None:
    ports = free_ports({"http": "127.0.0.1"}, but=[])
    assert port_fault("127.0.0.1", ports["http"]) == ""


@pytest.mark.parametrize("count", [1, 5])
def test_free_ports_differ_from_each_other(count: int) -> None:
    assert len(set(free_ports({str(number): "127.0.0.1" for number in range(count)}, but=[]).values())) == count
