"""The main job with real processes: reviews arrive, and go on arriving when services are killed."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def start(repository: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sentinelctl", "demo", "--json", "--repo", str(repository), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=repository,
    )  # fmt: skip


def finish(demo: subprocess.Popen[str], saw: Callable[[str], None] = lambda _line: None) -> dict[str, Any]:
    """The document; `saw` is given each line for people as it appears."""
    lines: list[str] = []

    def read() -> None:
        assert demo.stderr is not None
        for line in demo.stderr:
            lines.append(line)
            saw(line)

    reader = threading.Thread(target=read)
    with demo:
        reader.start()
        assert demo.stdout is not None
        out = demo.stdout.read()
        code = demo.wait(timeout=150)
        reader.join()
    assert code == 0, f"exit {code}\n{''.join(lines)}\n{out}"
    document: dict[str, Any] = json.loads(out)
    assert_nothing_runs(lines)
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


@pytest.mark.parametrize("victim", ["extractor", "publisher", "inference"])
def test_kill_9_in_the_middle_loses_nothing_and_posts_nothing_twice(repository: Path, victim: str) -> None:
    demo = start(repository, "--pushes", "6", "--rate", "4", "--latency-ms", "100")
    known: dict[str, int] = {}
    killed: list[int] = []

    def saw(line: str) -> None:
        if "pids:" in line:
            known.update(pids(line))
        elif line.startswith(("push", "pull")) and not killed:
            killed.append(known[victim])
            os.kill(known[victim], signal.SIGKILL)

    document = finish(demo, saw)
    assert killed, "the demo ended before anything could be killed"
    assert (document["lost"], document["duplicates"], document["reviews"]) == (0, 0, 7)


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
