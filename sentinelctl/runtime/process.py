"""What the operating system knows of a process or a port: /proc on Linux, ps and lsof elsewhere."""

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_IS_LINUX = sys.platform == "linux"
_LISTEN = "0A"


def start_token(pid: int) -> str | None:
    """When this process began, as text that no later process with the same pid has. None once it ended."""
    if _IS_LINUX:
        fields = _stat(pid)
        return None if fields is None or fields[0] in "ZX" else f"{_boot_id()}:{fields[19]}"
    state, _, started = _ps(pid, "stat", "lstart").partition(" ")
    return None if not state or state.startswith("Z") else started.strip()


def is_same(pid: int, started: str) -> bool:
    return start_token(pid) == started


def send_signal(pid: int, started: str, number: signal.Signals) -> bool:
    """Signals the process that began then, never another that has its pid by now. False when it is gone."""
    handle = _pidfd(pid)
    try:
        if not is_same(pid, started):
            return False
        if sys.platform == "linux" and handle is not None:
            signal.pidfd_send_signal(handle, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError:
        return False
    finally:
        if handle is not None:
            os.close(handle)
    return True


def cpu_and_memory(pid: int) -> tuple[float, int] | None:
    """CPU seconds used since its start, and resident bytes: of the process and of those it started."""
    if _IS_LINUX:
        fields = _stat(pid)
        if fields is None:
            return None
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        used = seconds, int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    else:
        clock, _, resident_kib = _ps(pid, "time", "rss").rpartition(" ")
        if not clock:
            return None
        used = _seconds(clock.strip()), int(resident_kib) * 1024
    each = [used, *filter(None, map(cpu_and_memory, children(pid)))]
    return sum(seconds for seconds, _ in each), sum(resident for _, resident in each)


def children(pid: int) -> list[int]:
    """Of what it started, the processes that run."""
    if not _IS_LINUX:
        return [int(child) for child in _said_by("pgrep", "-P", str(pid)).split()]
    found: list[int] = []
    for file in _PROC.glob(f"{pid}/task/*/children"):
        with contextlib.suppress(OSError):
            found += map(int, file.read_text(encoding="ascii").split())
    return found


def limit_files(pid: int, longest: int | None) -> bool:
    """Of the processes that it started, no file may grow beyond so many bytes; None: as long as its own may be.

    Their hard limit stays. False where this platform cannot, or nobody is there.
    """
    if not hasattr(resource, "prlimit"):
        return False
    found = False
    with contextlib.suppress(ProcessLookupError):
        own, _ = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        for child in children(pid):
            _, hard = resource.prlimit(child, resource.RLIMIT_FSIZE)
            resource.prlimit(child, resource.RLIMIT_FSIZE, (own if longest is None else longest, hard))
            found = True
    return found


def port_fault(host: str, port: int) -> str:
    """Why nothing can listen on host:port; empty when it is free."""
    everywhere = "::" if ":" in host else "0.0.0.0"  # noqa: S104 - looked at, not served
    # BSD lets one process listen on an address while another listens on all of them.
    fault = _listen_fault(host, port) or (None if _IS_LINUX else _listen_fault(everywhere, port))
    if fault is None:
        return ""
    if fault.errno == errno.EADDRINUSE:
        return f"taken by {port_holder(port) or 'a process that this user may not see'}"
    return fault.strerror or str(fault)


def _listen_fault(host: str, port: int) -> OSError | None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            if _IS_LINUX:  # which tells only now; macOS has told, and its firewall would ask the user
                listener.listen(1)
        except OSError as exc:
            return exc
    return None


def free_ports(hosts: Mapping[str, str], *, but: Collection[int]) -> dict[str, int]:
    """A free port of each name's host, none of them in `but`."""
    found: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for name, host in hosts.items():
            while name not in found:
                listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
                held.append(listener)
                listener.bind((host, 0))
                if (port := int(listener.getsockname()[1])) not in but:
                    found[name] = port
    finally:
        for listener in held:
            listener.close()
    return found


def port_holder(port: int) -> str | None:
    """`pid 123 (command line)` of who listens there; None when it cannot be told."""
    pid = _listener_pid(port) if _IS_LINUX else _listener_pid_by_lsof(port)
    return None if pid is None else f"pid {pid} ({command_of(pid)})"


def command_of(pid: int) -> str:
    """Its command line, shortened; empty when it is gone."""
    if not _IS_LINUX:
        return _ps(pid, "command")[:120]
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def _listener_pid(port: int) -> int | None:
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and any(target in wanted for target in _open_files(folder / "fd")):
            return int(folder.name)
    return None


def _listener_pid_by_lsof(port: int) -> int | None:
    for line in _said_by("lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fp").splitlines():
        if line.startswith("p"):
            return int(line[1:])
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            rows = (_PROC / "net" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def _open_files(folder: Path) -> Iterator[str]:
    """What a process has open; nothing for one that this user may not see."""
    try:
        entries = list(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        with contextlib.suppress(OSError):
            yield str(entry.readlink())


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from `state` on (proc(5) counts it as 3); the name before may hold spaces."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


@cache
def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pidfd(pid: int) -> int | None:
    """Holds the process itself, so that its pid cannot change hands between the look and the signal."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None  # gone, or a kernel or sandbox without it


def _ps(pid: int, *columns: str) -> str:
    """Without a header, for which BSD's ps wants an option a column. Empty when the process is gone."""
    wanted = [word for column in columns for word in ("-o", f"{column}=")]
    return _said_by("ps", *wanted, "-p", str(pid)).strip()


def _said_by(*command: str) -> str:
    """What a program printed; empty when there is no such program."""
    env = {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env).stdout
    except FileNotFoundError:
        return ""


def _seconds(clock: str) -> float:
    """ps's [[dd-]hh:]mm:ss.ss."""
    days, _, rest = clock.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part)
    return total + 86400 * int(days or 0)
