import os
import subprocess
import sys
from pathlib import Path

import pytest

from sentinelctl.errors import Exit, LockedError
from sentinelctl.runtime.statefile import Recorded, StateDir, read_json
from sentinelctl.state import Replica, Status


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    replica = Replica("a", 1, {"LEVEL": "info"}, status=Status.BACKING_OFF, ports={"http": 8000}, last_exit="exit 1")
    recorded = Recorded(7, "boot:1", "/control.sock", (replica,))
    state_dir.write(recorded)
    assert state_dir.read() == recorded


@pytest.mark.parametrize("text", ["", '{"supervisor": '])
def test_what_a_power_cut_left_counts_as_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text, encoding="utf-8")
    assert StateDir(tmp_path).read() is None


def test_a_second_writer_is_told_who_is_first(tmp_path: Path) -> None:
    with StateDir(tmp_path).locked(), pytest.raises(LockedError) as caught, StateDir(tmp_path).locked():
        pass
    assert f"pid {os.getpid()}" in caught.value.message
    assert caught.value.exit_code == Exit.LOCKED


def test_the_lock_goes_with_its_holder(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "new")
    for _ in range(2):
        with state_dir.locked():
            assert (state_dir.path.stat().st_mode & 0o777) == 0o700


def test_a_lock_whose_holder_was_killed_is_nobodys(tmp_path: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from sentinelctl.runtime.statefile import StateDir
with StateDir(Path(sys.argv[1])).locked():
    print("holds", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "holds\n"
        with pytest.raises(LockedError, match=f"pid {holder.pid} "), StateDir(tmp_path).locked(0):
            pass
        holder.kill()
    assert f"pid {holder.pid} " in StateDir(tmp_path).lock.read_text(), "its words are still there"
    with StateDir(tmp_path).locked(0):
        assert f"pid {os.getpid()} " in StateDir(tmp_path).lock.read_text()


def test_no_file_is_an_empty_document(tmp_path: Path) -> None:
    assert read_json(tmp_path / "none.json") == {}
