"""Shows that an engine is worked with over ssh: a real sshd of a test's own on loopback, and the real client."""

import getpass
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sentinelctl.errors import Exit, PreflightError
from sentinelctl.runtime import ssh
from sentinelctl.runtime.docker import DockerRuntime
from sentinelctl.runtime.engine import connect, silence
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import Volume
from tests.docker_engine import ADDRESS, fake, needs_engine, site_on_engine

from .conftest import eventually

_SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")

pytestmark = [
    *needs_engine(),
    pytest.mark.skipif(
        _SSHD is None or shutil.which("ssh") is None, reason="no sshd: `apt-get install openssh-server`"
    ),
    pytest.mark.skipif(not ADDRESS.startswith("unix://"), reason="sshd leads to a socket of this machine"),
]


@dataclass
class Remote:
    """This machine by ssh. The client asks nobody and knows only what `folder` has."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{ADDRESS.removeprefix('unix://')}"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    assert _SSHD is not None
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    (port,) = free_ports({"ssh": "127.0.0.1"}, but=[]).values()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{port} {(tmp_path / 'host.pub').read_text()}")
    (tmp_path / "server").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\nStrictModes no\nPidFile none\n"
    )
    (tmp_path / "client").write_text(
        f"Host *\nIdentityFile {tmp_path}/user\nIdentitiesOnly yes\nIdentityAgent none\nLogLevel ERROR\n"
        f"UserKnownHostsFile {tmp_path}/known\nStrictHostKeyChecking yes\n"
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh").write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/client "$@"\n')
    (tmp_path / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    if not os.geteuid():
        Path("/run/sshd").mkdir(exist_ok=True)  # which it asks for as root
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [_SSHD, "-D", "-e", "-f", str(tmp_path / "server"), "-o", f"ListenAddress=127.0.0.1:{port}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    remote = Remote(tmp_path, port)
    try:
        eventually(lambda: "Server listening" in (tmp_path / "log").read_text())
        yield remote
    finally:
        ssh.close(remote.address)
        server.terminate()
        server.wait()


def test_containers_are_started_read_and_stopped_over_ssh(remote: Remote) -> None:
    with site_on_engine() as site:
        near = site.runtime
        site.runtime = DockerRuntime(site.name, remote.address, volumes=[Volume(f"{site.name}-data")])
        try:
            assert site.converge(fake())[-1] == "start fake-1"
            assert near.observe() == site.runtime.observe()
            assert [line.replica for line in site.runtime.logs({"fake"}, lines=5)] == ["fake-1"]
            assert site.down(with_volumes=True)[0] == "stop fake-1"
        finally:
            site.runtime.close()
            site.runtime = near


def test_a_tunnel_that_broke_is_dug_again(remote: Remote) -> None:
    connect(remote.address).close()
    first = ssh._OPEN[remote.address].process
    first.kill()
    first.wait()
    assert silence(remote.address) == ""
    assert ssh._OPEN[remote.address].process is not first


def test_a_tunnel_ends_with_the_command_however_that_ends(remote: Remote) -> None:
    code = (
        "import os, sys, time; from sentinelctl.runtime import ssh; ssh.forwarded(sys.argv[1]);"
        "print(ssh._OPEN[sys.argv[1]].process.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code, remote.address], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        tunnel = int(command.stdout.readline())
        command.send_signal(signal.SIGKILL)
        command.wait()
    eventually(lambda: not Path(f"/proc/{tunnel}").exists() or _is_dead(tunnel))


def _is_dead(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_key_that_the_host_does_not_take_is_told_in_sshs_words(remote: Remote) -> None:
    (remote.folder / "user.pub").write_text("")
    with pytest.raises(PreflightError, match=r"at ssh://.*Permission denied \(publickey") as caught:
        connect(remote.address)
    assert caught.value.exit_code is Exit.PREFLIGHT
    assert f"`ssh {getpass.getuser()}@127.0.0.1:{remote.port} docker info` has to work" in caught.value.remedy


def test_a_host_that_nobody_vouches_for_is_not_trusted(remote: Remote) -> None:
    (remote.folder / "known").write_text("")
    with pytest.raises(PreflightError, match="Host key verification failed"):
        connect(remote.address)


def test_a_socket_that_the_host_does_not_have_is_an_absent_engine(remote: Remote) -> None:
    address = f"{remote.address}.none"
    try:
        with pytest.raises(PreflightError, match=r"no Docker engine answers at ssh://.*\.none"):
            connect(address)
    finally:
        ssh.close(address)


@pytest.mark.parametrize("address", ["ssh://", "ssh://host:many"])
def test_an_address_without_a_host_or_with_no_port_is_refused(address: str) -> None:
    with pytest.raises(PreflightError, match="no Docker engine answers at ssh://"):
        connect(address)
