"""python -m sentinelctl.chaos.guard FOLDER: ends each fault at its time, and all of them where the run is gone.

The run starts it in a session of its own before it changes anything, so that what a kill -9 of the run leaves is undone
within a second.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from sentinelctl.chaos.journal import Journal, perform

_LOOK_EVERY_S: Final = 0.25


def start(journal: Journal) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sentinelctl.chaos.guard", str(journal.folder)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def watch(journal: Journal) -> None:
    """Until the run closed its journal, or was healed."""
    while not journal.is_closed:
        if not journal.is_alive:
            journal.heal()
            shutil.rmtree(journal.folder / "served", ignore_errors=True)  # the journal stays to be read
            return
        for entry in journal.open_entries():
            if entry.ends_at and time.time() > entry.ends_at:
                perform(entry.undo)
                journal.undone(entry.id)
        time.sleep(_LOOK_EVERY_S)


if __name__ == "__main__":
    watch(Journal(Path(sys.argv[1])))
