"""The main job with real processes: reviews arrive, and nothing runs afterwards."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def start(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sentinelctl", "demo", "--json", "--repo", str(repository), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repository,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore Ctrl-C
    )  # fmt: skip


def finish(demo: subprocess.Popen[str]) -> dict[str, Any]:
    """The document."""
    out, said = demo.communicate(timeout=150)
    assert demo.returncode == 0, f"exit {demo.returncode}\n{said}\n{out}"
    document: dict[str, Any] = json.loads(out)
    assert_nothing_runs(said.splitlines())
    return document


def pids(line: str) -> dict[str, int]:
    return {name: int(pid) for name, pid in re.findall(r"(\w+) (\d+)", line.partition("pids:")[2])}


def assert_nothing_runs(lines: list[str]) -> None:
    started = next(line for line in lines if "pids:" in line)
    assert [name for name, pid in pids(started).items() if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_push_and_the_pull_request_are_reviewed_once(repository: Path) -> None:
    document = finish(start(repository, "--pushes", "6", "--rate", "4", "--latency-ms", "20"))
    assert (document["pushes"], document["pull_requests"], document["reviews"]) == (6, 1, 7)
    assert (document["lost"], document["duplicates"], document["refused"]) == (0, 0, 0)
    assert document["outcomes"] == {"reviewed": 7}
    assert document["hunks_reviewed"] > 0
    assert 0 < document["e2e_ms"]["p50"] <= document["e2e_ms"]["p99"]
    assert set(document["stages_ms"]) >= {"queue", "github", "forward", "own"}


def test_ctrl_c_stops_everything(repository: Path) -> None:
    with start(repository, "--pushes", "6", "--rate", "0.5") as demo:
        assert demo.stderr is not None
        lines = []
        for line in demo.stderr:
            lines.append(line)
            if "pids:" in line:
                break
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert_nothing_runs(lines)


def test_a_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    demo = start(tmp_path)
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert "is no git repository" in err
    assert json.loads(out)["error"]["exit_code"] == 2
