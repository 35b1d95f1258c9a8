"""When the disk has what SQLite committed.

`synchronous = FULL` waits for the disk inside COMMIT, with the write lock of everybody. With NORMAL a commit survives
the death of its process at once, and power loss from the next sync_wal() of anybody on.
"""

import fcntl
import os
import sys
from pathlib import Path


def sync_wal(database: Path) -> None:
    """What was committed to it so far survives power loss when this returns. Raises OSError.

    It has to be open in this process, or SQLite may just have taken its write-ahead log away. Unlike the database and
    its -shm, the -wal has no locks that closing it would drop.
    """
    file = os.open(f"{database}-wal", os.O_RDWR | os.O_CLOEXEC)
    try:
        if sys.platform == "darwin":  # its fsync leaves data in the drive's cache, and it has no fdatasync
            fcntl.fcntl(file, fcntl.F_FULLFSYNC)
        else:
            os.fdatasync(file)
    finally:
        os.close(file)
