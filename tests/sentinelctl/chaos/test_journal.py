import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sentinelctl.chaos import guard, journal
from sentinelctl.chaos.journal import Journal, interrupted
from sentinelctl.errors import SentinelError
from sentinelctl.runtime.process import start_token

ENDED = {"do": "kill", "pid": os.getpid(), "started": "never", "of": "nobody"}
"""Of a process that is not there: this one started at another time."""


@pytest.fixture
def began(tmp_path: Path) -> Journal:
    return Journal.begun(tmp_path / "home" / "run")


def as_of_a_run_that_is_gone(one: Journal) -> Journal:
    head, *rest = one.path.read_text().splitlines()
    gone = json.dumps({**json.loads(head), "started": "another life"})
    one.path.write_text("".join(f"{line}\n" for line in [gone, *rest]))
    return one


def test_a_change_is_written_down_before_it_is_made_and_undone_after(began: Journal) -> None:
    with began.changing(ENDED, for_s=5):
        (entry,) = began.open_entries()
        assert entry.undo == ENDED
        assert 0 < entry.ends_at - time.time() <= 5
    assert began.open_entries() == []


def test_a_change_is_undone_where_the_block_fails(began: Journal) -> None:
    with pytest.raises(KeyboardInterrupt), began.changing(ENDED):
        raise KeyboardInterrupt
    assert began.open_entries() == []


def test_what_is_left_is_undone_the_latest_first_and_once(began: Journal) -> None:
    for name in ("first", "second"):
        began.note({**ENDED, "of": name})
    did = began.heal()
    assert did == ["second had ended", "first had ended"]
    assert began.is_closed
    assert began.heal() == []


def test_a_line_that_a_crash_cut_short_announces_nothing(began: Journal) -> None:
    began.note(ENDED)
    with began.path.open("a") as file:
        file.write('{"id": 2, "undo": {"do": "li')
    assert [one.id for one in began.open_entries()] == [1]


def test_only_runs_that_are_gone_and_left_something_are_interrupted(began: Journal) -> None:
    home = began.folder.parent
    assert interrupted(home) == [], "it goes on"
    as_of_a_run_that_is_gone(began)
    assert [one.folder for one in interrupted(home)] == [began.folder]
    began.heal()
    assert interrupted(home) == []


def test_words_of_another_version_are_refused(began: Journal) -> None:
    with pytest.raises(SentinelError, match="cannot undo 'fly'"):
        journal.perform({"do": "fly"})


def test_the_guard_ends_a_fault_at_its_time_and_goes_when_the_journal_is_closed(began: Journal) -> None:
    began.note(ENDED, for_s=0.01)
    began.note({**ENDED, "of": "one for the whole run"})
    watcher = guard.start(began)
    try:
        deadline = time.monotonic() + 30
        while len(began.open_entries()) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [one.undo["of"] for one in began.open_entries()] == ["one for the whole run"]
        began.close()
        assert watcher.wait(30) == 0
    finally:
        watcher.kill()
        watcher.wait()


def test_the_guard_undoes_everything_of_a_run_that_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys, time; from pathlib import Path; from sentinelctl.chaos import guard; "
        "from sentinelctl.chaos.journal import Journal; journal = Journal.begun(Path(sys.argv[1])); "
        f"journal.note({ENDED!r}); print(guard.start(journal).pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        watcher = int(run.stdout.readline())
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    deadline = time.monotonic() + 30
    while not Journal(folder).is_closed or start_token(watcher):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert Journal(folder).open_entries() == []
