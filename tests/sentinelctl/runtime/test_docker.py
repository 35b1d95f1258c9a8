"""Shows on a real engine that containers follow their specs, that labels are all the memory, and what faults say."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from sentinelctl.errors import Exit, PreflightError, SentinelError, UnhealthyError
from sentinelctl.images import Built
from sentinelctl.runtime.docker import IDENTITY, IMAGE, PROJECT, REPLICA, SERVICE, SPEC, DockerRuntime
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import Kind, Mount, Operation, Status
from tests.docker_engine import PYTHON_IMAGE, Site, fake, labelled, needs_engine, site_on_engine
from tests.second_engine import needs_second_engine, second_engine

from .conftest import eventually

pytestmark = needs_engine()


@pytest.fixture
def site() -> Iterator[Site]:
    with site_on_engine() as site:
        yield site


@pytest.fixture
def free_port() -> int:
    return free_ports({"http": "127.0.0.1"}, but=[])["http"]


def test_what_is_started_is_ready_and_a_second_plan_is_empty(site: Site) -> None:
    assert site.converge(fake(replicas=2)) == [
        f"create network {site.name}", f"create volume {site.name}-data", "start fake-1", "start fake-2",
    ]  # fmt: skip
    assert site.converge(fake(replicas=2)) == []


def test_labels_name_project_service_replica_spec_and_image(site: Site) -> None:
    site.converge(fake(replicas=2))
    first, second = (site.about(f"fake-{index}")["Config"]["Labels"] for index in (1, 2))
    assert [first[key] for key in (PROJECT, SERVICE, REPLICA)] == [site.name, "fake", "1"]
    assert first[SPEC] == second[SPEC]
    assert first[IMAGE] == site.client.inspect_image(PYTHON_IMAGE)["Id"]


def test_no_label_holds_a_secret(site: Site) -> None:
    site.converge(fake())
    assert "hunter2" not in json.dumps(site.about("fake-1")["Config"]["Labels"])
    assert site.run("fake-1", "sh", "-c", "echo $TOKEN")[1].strip() == "hunter2"


def test_one_services_setting_replaces_that_service_and_a_count_replaces_nothing(site: Site) -> None:
    site.converge(fake("one"), fake("other"))
    untouched = site.replica("other-1").started
    assert site.converge(fake("one", LEVEL="debug"), fake("other", replicas=2)) == ["replace one-1", "start other-2"]
    assert site.replica("other-1").started == untouched


def test_a_cause_names_what_changed(site: Site) -> None:
    site.converge(fake())
    (operation,) = site.planned(fake(LEVEL="debug")).operations
    assert (operation.kind, operation.cause) == (Kind.REPLACE, "changed: LEVEL")


def test_an_image_that_was_built_again_replaces_what_ran_the_old_one(site: Site) -> None:
    image = f"{site.name}-image"
    site.client.tag(PYTHON_IMAGE, image)
    try:
        site.converge(fake(image=image))
        made = site.client.create_container(image, command="true")
        site.client.commit(made["Id"], image)
        site.client.remove_container(made["Id"])
        (operation,) = site.planned(fake(image=image)).operations
        assert operation.cause == "changed: image"
        site.down()
    finally:
        site.client.remove_image(image, force=True)


def test_two_projects_run_side_by_side(site: Site) -> None:
    with site_on_engine() as other:
        site.converge(fake())
        other.converge(fake())
        site.down(with_volumes=True)
        assert labelled(site.client, site.name) == []
        assert other.converge(fake()) == []


def test_a_container_removed_by_hand_comes_back(site: Site) -> None:
    site.converge(fake(replicas=2))
    site.client.remove_container(f"{site.name}-fake-1", force=True)
    assert site.converge(fake(replicas=2)) == ["start fake-1"]


def test_a_container_stopped_by_hand_is_told_and_replaced(site: Site) -> None:
    site.converge(fake())
    site.client.stop(f"{site.name}-fake-1", timeout=5)
    assert site.replica("fake-1").status is Status.STOPPED
    (operation,) = site.planned(fake()).operations
    assert (operation.kind, operation.cause) == (Kind.REPLACE, "stopped: exited: exit 0")
    site.converge(fake())


def test_what_a_crash_left_half_made_is_finished_by_up_and_swept_by_down(site: Site) -> None:
    """As after a kill of sentinelctl between two calls: a container that was made and never started."""
    site.converge(fake())
    site.client.remove_container(f"{site.name}-fake-1", force=True)
    labels = {PROJECT: site.name, SERVICE: "fake", REPLICA: "1", IDENTITY: "not ours"}
    site.client.create_container(PYTHON_IMAGE, command="true", name=f"{site.name}-fake-1", labels=labels)
    (operation,) = site.planned(fake()).operations
    assert operation.kind is Kind.REPLACE
    assert site.converge(fake()) == ["replace fake-1"]
    site.client.create_container(PYTHON_IMAGE, command="true", labels={**labels, REPLICA: "7"})
    site.down(with_volumes=True)
    assert labelled(site.client, site.name) == []


def test_an_orphan_of_a_service_that_no_longer_exists_is_swept_by_up(site: Site) -> None:
    site.converge(fake("old"), fake("new"))
    assert site.converge(fake("new")) == ["stop old-1"]


def test_down_keeps_volumes_unless_they_were_named(site: Site) -> None:
    site.converge(fake())
    assert site.down() == ["stop fake-1", f"remove network {site.name}"]
    assert labelled(site.client, site.name) == [f"volume {site.name}-data"]
    assert site.down(with_volumes=True) == [f"remove volume {site.name}-data"]


def test_a_container_can_do_no_more_than_its_service_needs(site: Site, free_port: int) -> None:
    site.converge(fake(port=free_port))
    about = site.about("fake-1")
    host = about["HostConfig"]
    assert about["Config"]["User"] == "10001:10001"
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges:true"])
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 << 20, 64 << 20, 256)
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(free_port)}]}
    assert host["Privileged"] is False
    assert site.run("fake-1", "id", "-u") == (0, "10001\n")
    code, said = site.run("fake-1", "touch", "/etc/x")
    assert code == 1
    assert "Read-only file system" in said
    assert site.run("fake-1", "touch", "/tmp/x") == (0, "")
    assert site.run("fake-1", "grep", "CapEff", "/proc/1/status") == (0, "CapEff:\t0000000000000000\n")


def test_the_first_replica_has_the_port_and_further_ones_a_free_one(site: Site, free_port: int) -> None:
    site.converge(fake(replicas=2, port=free_port))
    first, second = (site.replica(f"fake-{index}").ports["http"] for index in (1, 2))
    assert first == free_port
    assert second not in (0, free_port)


def test_a_crashed_process_is_restarted_and_counted(site: Site) -> None:
    site.converge(fake())
    before = site.replica("fake-1")
    # Below init, which is the first process: a kill by the engine would suspend the restarts.
    site.run("fake-1", "sh", "-c", "kill -9 -1")
    eventually(lambda: site.replica("fake-1").restarts == 1 and site.replica("fake-1").status is Status.RUNNING)
    assert site.replica("fake-1").started != before.started


def test_a_crash_loop_is_told_at_once_with_what_it_wrote(site: Site) -> None:
    with pytest.raises(UnhealthyError, match=r"crash-loop: exit 7, \d times in a row") as caught:
        site.converge(fake(CRASH="1"), ready_s=60)
    assert "fake.started" in caught.value.message
    assert caught.value.exit_code is Exit.UNHEALTHY


def test_an_unhealthy_service_is_shown_with_its_probes_words_and_its_last_fifty_lines(site: Site) -> None:
    with pytest.raises(UnhealthyError) as caught:
        site.converge(fake(ANSWER="503", CHATTER="60"), ready_s=2)
    said, *lines = caught.value.message.splitlines()
    assert "503" in said
    assert "said by the probe" in said
    assert [line.split()[-1] for line in lines] == [*(f"fake.line-{n}" for n in range(11, 60)), "fake.started"]
    assert caught.value.exit_code is Exit.UNHEALTHY


def test_a_stop_drains_and_says_when_force_was_needed(site: Site) -> None:
    site.converge(fake("kind"), fake("stubborn", grace_s=1, STUBBORN="1"))
    stop = {name: Operation(Kind.STOP, name, 1, "test") for name in ("kind", "stubborn")}
    assert site.runtime.apply(stop["kind"]).was_killed is False
    assert site.runtime.apply(stop["stubborn"]).was_killed is True


def test_a_stop_of_what_is_gone_is_done(site: Site) -> None:
    assert site.runtime.apply(Operation(Kind.STOP, "fake", 1, "test")).was_killed is False


def test_replicas_share_a_name_on_the_private_network(site: Site) -> None:
    site.converge(fake(replicas=2))
    look = "import socket; print(len({i[4][0] for i in socket.getaddrinfo('fake', 1)}))"
    assert site.run("fake-1", "python3", "-c", look) == (0, "2\n")


def test_usage_is_measured(site: Site) -> None:
    site.converge(fake(replicas=2))
    found = site.runtime.usage(over_s=0.2)
    assert set(found) == {"fake-1", "fake-2"}
    assert all(1_000_000 < one.memory_bytes < 64 << 20 for one in found.values())
    assert all(0 <= one.cpu_percent < 1600 for one in found.values())


def test_logs_come_in_time_order_and_only_of_those_named(site: Site) -> None:
    site.converge(fake("one"), fake("other"))
    lines = list(site.runtime.logs({"one", "other-1"}, lines=10))
    assert [line.replica for line in lines] == ["one-1", "other-1"]
    assert [line.replica for line in site.runtime.logs({"one"}, lines=10)] == ["one-1"]


def test_following_shows_what_comes_of_replicas_that_start_later_and_of_a_restart(site: Site) -> None:
    site.converge(fake())
    seen: list[str] = []
    lines = site.runtime.logs({"fake"}, lines=10, follow=True)

    def read() -> None:
        seen.extend(f"{line.replica} {json.loads(line.text)['event']}" for line in islice(lines, 4))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    site.converge(fake(replicas=2))
    site.client.restart(f"{site.name}-fake-1", timeout=5)
    reader.join(30)
    assert not reader.is_alive()
    lines.close()
    assert sorted(seen) == ["fake-1 fake.started", "fake-1 fake.started", "fake-1 fake.stopped", "fake-2 fake.started"]


# Faults


def test_a_port_that_another_container_holds_is_named_with_it(site: Site, free_port: int) -> None:
    with site_on_engine() as other:
        other.converge(fake(port=free_port))
        with pytest.raises(PreflightError, match=f"container {other.name}-fake-1, of project {other.name}") as caught:
            site.planned(fake(port=free_port))
    assert caught.value.exit_code is Exit.PREFLIGHT
    assert "SENTINEL_FAKE_PORT" in caught.value.remedy


def test_a_port_that_a_process_holds_is_named_with_it(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError, match=rf"fake needs port {port} \(http\), which is taken by .*python"):
            site.planned(fake(port=port))


def test_a_port_taken_between_the_look_and_the_start_is_an_error_of_ours(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        spec = site.placed(fake(port=taken.getsockname()[1]))
        for needed in site.planned(fake()).operations[:2]:
            site.runtime.apply(needed)
        with pytest.raises(PreflightError, match="a port is taken"):
            site.runtime.apply(Operation(Kind.START, "fake", 1, "test", spec))


def test_a_file_that_the_engine_does_not_see_is_named_and_no_folder_takes_its_place(site: Site, tmp_path: Path) -> None:
    spec, file = site.placed(fake()), tmp_path / "ca.pem"
    assert spec.container is not None
    mounted = replace(spec, container=replace(spec.container, mounts=(Mount(str(file), "/ca.pem", is_read_only=True),)))
    for needed in site.planned(fake()).operations[:2]:
        site.runtime.apply(needed)
    with pytest.raises(PreflightError, match=rf"does not see a file of this machine: .*{file}") as caught:
        site.runtime.apply(Operation(Kind.START, "fake", 1, "test", mounted))
    assert "run sentinelctl there" in caught.value.remedy
    assert not file.exists()
    file.write_text("a certificate")
    site.runtime.apply(Operation(Kind.START, "fake", 1, "test", mounted))
    assert site.run("fake-1", "cat", "/ca.pem") == (0, "a certificate")


def test_two_services_on_one_port_are_refused_before_anything_starts(site: Site, free_port: int) -> None:
    with pytest.raises(PreflightError, match=f"are both {free_port}"):
        site.planned(fake("one", port=free_port), fake("other", port=free_port))


def test_an_image_that_no_hub_has_is_an_error_with_a_way_out(site: Site) -> None:
    found = site.planned(fake(image="127.0.0.1:1/nowhere/none:1"))
    assert found.operations[0].kind is Kind.PULL
    with pytest.raises(PreflightError, match=r"127\.0\.0\.1:1/nowhere/none:1") as caught:
        site.runtime.apply(found.operations[0])
    assert "[images]" in caught.value.remedy


def test_a_base_image_that_cannot_be_had_is_named_by_its_key() -> None:
    base = "127.0.0.1:1/nowhere/base:1"
    image = Built("services", "test-none:1", (("Dockerfile", b"ARG BASE\nFROM ${BASE}\n"),))
    with (
        site_on_engine(own={image.reference: image}, base=base) as site,
        pytest.raises(PreflightError, match=rf"images\.python = '{base}', cannot be had"),
    ):
        site.runtime.build(image.reference)


def test_a_build_that_fails_shows_its_last_lines() -> None:
    dockerfile = b"ARG BASE\nFROM ${BASE}\nRUN echo a-telling-line && false\n"
    image = Built("services", "test-broken:1", (("Dockerfile", dockerfile),))
    with (
        site_on_engine(own={image.reference: image}, base=PYTHON_IMAGE) as site,
        pytest.raises(SentinelError, match="a-telling-line"),
    ):
        site.runtime.build(image.reference)


def test_a_build_tells_each_of_its_steps() -> None:
    dockerfile = b"ARG BASE\nFROM ${BASE}\nENV A=1\n"
    image = Built("services", "test-steps:1", (("Dockerfile", dockerfile),))
    told: list[tuple[str, int, int]] = []
    with site_on_engine(own={image.reference: image}, base=PYTHON_IMAGE) as site:
        try:
            site.runtime.build(image.reference, lambda what, done, of: told.append((what, done, of)))
        finally:
            site.client.remove_image(image.reference, force=True)
    assert told == [("build test-steps:1", step, 4) for step in (1, 2, 3, 4)]  # the last is our label


def test_too_little_disk_is_said_before_anything_starts() -> None:
    with site_on_engine(min_free_gb=1e6) as site, pytest.raises(PreflightError, match=r"docker\.min_free_gb") as caught:
        site.planned(fake())
    assert "docker system df" in caught.value.remedy


def test_more_memory_than_the_engine_has_is_said_before_anything_starts(site: Site) -> None:
    spec = fake()
    assert spec.container is not None
    greedy = replace(spec, container=replace(spec.container, memory_mb=1 << 30))
    with pytest.raises(PreflightError, match="GiB of memory"):
        site.planned(greedy)


@needs_second_engine
def test_a_disk_that_fills_up_meanwhile_is_told_from_other_refusals() -> None:
    image = Built(
        "services", "test-large:1", (("Dockerfile", b"FROM scratch\nADD large /\n"), ("large", bytes(48 << 20)))
    )
    with second_engine(disk_mb=64) as address:
        runtime = DockerRuntime("test", address, own={image.reference: image})
        try:
            with pytest.raises(PreflightError, match=r"disk is full: .*no space left on device") as caught:
                runtime.build(image.reference)
        finally:
            runtime.close()
    assert "docker system df" in caught.value.remedy


def test_a_stranger_with_our_name_is_left_alone_and_named(site: Site) -> None:
    site.converge(fake("other"))
    stranger = site.client.create_container(PYTHON_IMAGE, command="true", name=f"{site.name}-fake-1")
    try:
        with pytest.raises(PreflightError, match="already in use by container") as caught:
            site.converge(fake("other"), fake())
    finally:
        site.client.remove_container(stranger["Id"])
    assert "none of our labels" in caught.value.remedy


def test_an_engine_that_went_away_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="no Docker engine answers"):
        DockerRuntime("none", f"unix://{tmp_path}/none.sock").observe()
