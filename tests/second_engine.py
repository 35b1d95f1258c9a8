"""A second Docker engine on this machine, as another host has one: with a name, network stack, containers and images
of its own. It reaches this machine by a cable of two ends, and other machines not at all."""

import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import docker
import pytest

from sentinelctl.runtime.engine import silence
from tests.docker_engine import ADDRESS

_START_S = 60.0
_TOOLS = ("dockerd", "ip", "nsenter", "unshare")


def cannot_be_started() -> str:
    """Why; empty when it can."""
    if os.geteuid():
        return "a second engine takes root, who alone makes network namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        return f"a second engine takes {', '.join(missing)}: `apt-get install docker.io iproute2 util-linux`"
    return ""


needs_second_engine = pytest.mark.skipif(bool(cannot_be_started()), reason=cannot_be_started())


@contextmanager
def second_engine(images: Iterable[str] = (), *, disk_mb: int = 0) -> Iterator[str]:
    """Its address. images: copied from the first engine. disk_mb: of its disk; 0 as large as this machine's.

    Never beside the first engine in one network namespace: each clears the other's firewall rules when it starts.
    """
    number = os.getpid() % 250
    space, near, far = (f"{kind}{uuid.uuid4().hex[:8]}" for kind in ("st-", "sth-", "stc-"))
    folder = Path(tempfile.mkdtemp(prefix="st-"))  # short: the paths of its sockets have at most 107 bytes
    address = f"unix://{folder}/engine.sock"
    if disk_mb:
        _run("mount", "-t", "tmpfs", "-o", f"size={disk_mb}m", "tmpfs", str(folder))
    process: subprocess.Popen[bytes] | None = None
    try:
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        _run("ip", "address", "add", f"10.213.{number}.1/30", "dev", near)
        _run("ip", "link", "set", near, "up")
        for words in (
            f"address add 10.213.{number}.2/30 dev {far}", f"link set {far} up", "link set lo up",
            f"route add default via 10.213.{number}.1",
        ):  # fmt: skip
            _run("ip", "-n", space, *words.split())
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    "nsenter", f"--net=/run/netns/{space}", "unshare", "--uts", "sh", "-c",
                    'hostname "$0" && exec dockerd "$@"', space, f"--host={address}",
                    f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid",
                    "--bip=10.214.0.1/24", "--default-address-pool=base=10.215.0.0/16,size=24",
                    f"--containerd-namespace={space}", f"--containerd-plugins-namespace={space}-plugins",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_S
        while fault := silence(address):
            is_hopeless = process.poll() is not None or time.monotonic() > deadline
            assert not is_hopeless, f"{fault}\n{(folder / 'log').read_text()[-2000:]}"
            time.sleep(0.05)
        _copy(images, address)
        yield address
    finally:
        if process is not None:
            process.terminate()
            process.wait(_START_S)
        subprocess.run(["ip", "netns", "delete", space], check=False)
        subprocess.run(["ip", "link", "delete", near], check=False, capture_output=True)  # goes with its other end
        if disk_mb:
            _run("umount", str(folder))
        shutil.rmtree(folder)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def _copy(images: Iterable[str], address: str) -> None:
    here, there = docker.APIClient(ADDRESS), docker.APIClient(address, timeout=300)
    try:
        for image in images:
            there.load_image(here.get_image(image))
    finally:
        here.close()
        there.close()
