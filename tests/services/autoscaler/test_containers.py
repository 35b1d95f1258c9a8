"""Shows on a real engine that clones are like what they are cloned from, and that nothing of others is touched."""

import fcntl
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sentinelctl.errors import UnhealthyError
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import ServiceSpec
from services.autoscaler.containers import DockerActor, connect
from services.autoscaler.replicas import Counts
from services.counts import FOLDER, LOCK, OPERATOR, write_counts
from tests.docker_engine import ADDRESS, Site, fake, needs_engine, site_on_engine

pytestmark = needs_engine()

CONFIGURED = {"fake": 1, "other": 1}


@pytest.fixture
def site() -> Iterator[Site]:
    with site_on_engine() as site:
        yield site


@pytest.fixture
def counts(tmp_path: Path) -> Counts:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / LOCK).touch()
    return Counts(tmp_path, CONFIGURED)


@pytest.fixture
async def actor(site: Site, counts: Counts, tmp_path: Path) -> AsyncIterator[DockerActor]:
    actor = DockerActor(connect(ADDRESS), site.name, counts, tmp_path / LOCK)
    yield actor
    await actor.close()


def scaled(**options: Any) -> ServiceSpec:
    """With its operations port, as every service that is scaled has one."""
    spec = fake(**options)
    return replace(spec, ports=tuple(replace(port, name="metrics") for port in spec.ports))


def running(site: Site) -> list[str]:
    return sorted(one.name for one in site.runtime.observe().replicas)


async def test_a_clone_differs_in_its_number_and_ports_alone_and_up_takes_it_for_its_own(
    site: Site, counts: Counts, actor: DockerActor
) -> None:
    (port,) = free_ports({"metrics": "127.0.0.1"}, but=[]).values()
    site.converge(scaled(port=port))
    counts.ask("fake", 3)
    await actor.act()
    assert running(site) == ["fake-1", "fake-2", "fake-3"]
    assert site.converge(scaled(replicas=3, port=port)) == []
    first, third = site.about("fake-1"), site.about("fake-3")
    same = (
        "Binds",
        "Memory",
        "PidsLimit",
        "ReadonlyRootfs",
        "CapDrop",
        "SecurityOpt",
        "Tmpfs",
        "RestartPolicy",
        "Init",
    )
    assert [third["HostConfig"][key] for key in same] == [first["HostConfig"][key] for key in same]
    assert third["Image"] == first["Image"]
    for key in ("User", "Cmd", "Healthcheck", "Hostname"):
        assert third["Config"][key] == first["Config"][key]
    assert set(first["Config"]["Env"]) ^ set(third["Config"]["Env"]) == {
        "SENTINEL_REPLICA=fake-1", "SENTINEL_REPLICA=fake-3",
    }  # fmt: skip
    assert site.replica("fake-1").ports["metrics"] == port
    assert len({site.replica(f"fake-{number}").ports["metrics"] for number in (1, 2, 3)}) == 3
    look = "import socket; print(len({i[4][0] for i in socket.getaddrinfo('fake', 1)}))"
    assert site.run("fake-3", "python3", "-c", look) == (0, "3\n")


async def test_the_highest_number_is_drained_and_no_longer_counted(
    site: Site, counts: Counts, actor: DockerActor
) -> None:
    site.converge(scaled(replicas=3, grace_s=1, STUBBORN="1"))
    counts.ask("fake", 2)
    await actor.act()
    assert [one.name for one in await actor.replicas("fake")] == ["fake-2", "fake-1"]
    assert running(site) == ["fake-1", "fake-2", "fake-3"], "its grace is not over"
    await actor.close()
    assert running(site) == ["fake-1", "fake-2"]


async def test_nothing_without_the_projects_label_is_touched(site: Site, counts: Counts, actor: DockerActor) -> None:
    with site_on_engine() as other:
        other.converge(scaled(replicas=2))
        site.converge(scaled(replicas=2))
        counts.ask("fake", 1)
        await actor.act()
        await actor.close()
        assert (running(site), running(other)) == (["fake-1"], ["fake-1", "fake-2"])


async def test_an_operators_service_and_a_command_at_work_are_left_alone(
    site: Site, counts: Counts, actor: DockerActor, tmp_path: Path
) -> None:
    site.converge(scaled())
    counts.ask("fake", 2)
    with (tmp_path / LOCK).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await actor.act()
    assert running(site) == ["fake-1"]
    write_counts(tmp_path / OPERATOR, {"fake": 1}, CONFIGURED)
    await actor.act()
    assert running(site) == ["fake-1"]
    (tmp_path / OPERATOR).unlink()
    await actor.act()
    assert running(site) == ["fake-1", "fake-2"]


async def test_what_was_made_and_never_started_is_started(site: Site, counts: Counts, actor: DockerActor) -> None:
    """As after a kill of the autoscaler between two calls."""
    site.converge(scaled(replicas=2))
    site.client.stop(f"{site.name}-fake-2", timeout=5)
    counts.ask("fake", 2)
    await actor.act()
    assert [one.name for one in await actor.replicas("fake")] == ["fake-1"], "who stopped it by hand meant it"
    about = site.about("fake-2")
    site.client.remove_container(about["Id"])
    labels = about["Config"]["Labels"]
    site.client.create_container(about["Image"], ["sleep", "60"], name=f"{site.name}-fake-2", labels=labels)
    await actor.act()
    assert [one.name for one in await actor.replicas("fake")] == ["fake-2", "fake-1"]


async def test_a_crash_loop_is_told(site: Site, actor: DockerActor) -> None:
    with pytest.raises(UnhealthyError, match="crash-loop"):
        site.converge(scaled(CRASH="1"))
    (one,) = await actor.replicas("fake")
    assert "fake-1 ended" in one.looping
    assert "(exit 7)" in one.looping


async def test_nobody_to_clone_is_told_and_ends_nothing(
    counts: Counts, actor: DockerActor, capsys: pytest.CaptureFixture[str]
) -> None:
    counts.ask("fake", 2)
    await actor.act()
    assert "fake has no container to be cloned" in capsys.readouterr().out
