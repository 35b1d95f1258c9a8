"""Services as containers, one call of the engine per step. Their labels are the only memory."""

import contextlib
import hashlib
import json
import queue
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

from sentinelctl.errors import PreflightError, SentinelError
from sentinelctl.runtime.base import Applied, LogLine, Progress, Usage, never, unseen
from sentinelctl.runtime.engine import connect, explained, is_local, no_image
from sentinelctl.runtime.process import port_fault
from sentinelctl.state import (
    Container,
    Kind,
    Mount,
    ObservedState,
    Operation,
    Plan,
    Port,
    Replica,
    ServiceSpec,
    Status,
    Volume,
)
from services.contract import Label

if TYPE_CHECKING:
    import docker

    from sentinelctl.images import Built

PROJECT, SERVICE, REPLICA, PORTS = Label.PROJECT, Label.SERVICE, Label.REPLICA, Label.PORTS
SPEC: Final = "sentinel.spec"
"""A digest of all that a container was made from; no replica count, no secret."""
IDENTITY: Final = "sentinel.identity"
"""What the digest is of, so that a difference can be named."""
IMAGE: Final = "sentinel.image"

_HEALTH_EVERY_S: Final = 15
_FOLLOW_S: Final = 1.0
_STEADY_S: Final = 10.0  # the engine counts restarts anew after a run this long
_SECOND: Final = 1_000_000_000  # the API speaks nanoseconds
_NO_TIME: Final = "0001-01-01"
_KILLED: Final = 137
_SIGNAL_BELOW_INIT: Final = (
    "for one in $(cat /proc/1/task/1/children); do kill -$0 $one $(cat /proc/$one/task/*/children); done"
)
_LIMIT_BELOW_INIT: Final = (
    "for one in $(cat /proc/1/task/1/children); do for own in $(cat /proc/$one/task/*/children); do "
    "prlimit --pid $own --fsize=${0:-$(prlimit --pid $one --fsize --output SOFT --noheadings)}: || exit 1; done; done"
)
_GIB: Final = 1024**3


class DockerRuntime:
    """Containers of one project on one engine.

    name: of the project. volumes: what the services' mounts refer to. own: our images by reference, to build.
    """

    name = "docker"
    at_once = 8

    def __init__(
        self,
        project: str,
        address: str,
        *,
        volumes: Sequence[Volume] = (),
        own: Mapping[str, "Built"] | None = None,
        base: str = "",
        min_free_gb: float = 0.0,
    ) -> None:
        self._project, self._address = project, address
        self._volumes, self._own, self._base = tuple(volumes), dict(own or {}), base
        self._min_free_gb = min_free_gb

    @cached_property
    def _client(self) -> "docker.APIClient":
        return connect(self._address)

    @cached_property
    def _about(self) -> dict[str, Any]:
        with explained("looking at the engine"):
            found: dict[str, Any] = self._client.info()
        return found

    # What there is

    def observe(self) -> ObservedState:
        with explained("listing containers"):
            listed = self._client.containers(all=True, filters=self._ours)
            inspected = [found for one in listed if (found := self._inspect(one["Id"])) is not None]
        return ObservedState(tuple(_replica(one) for one in inspected))

    @property
    def _ours(self) -> dict[str, str]:
        return {"label": f"{PROJECT}={self._project}"}

    def _inspect(self, container: str) -> dict[str, Any] | None:
        from docker.errors import NotFound

        try:
            found: dict[str, Any] = self._client.inspect_container(container)
        except NotFound:
            return None
        return found

    def resolve(self, desired: Sequence[ServiceSpec]) -> tuple[ServiceSpec, ...]:
        """With the id of each image as the engine has it now."""
        containers = {spec.name: spec.container for spec in desired if spec.container is not None}
        ids = {image: self._image_id(image) for image in {one.image for one in containers.values()}}
        return tuple(
            replace(spec, container=replace(container, image_id=ids[container.image]))
            for spec in desired
            for container in [containers[spec.name]]
        )

    def _image_id(self, reference: str) -> str:
        from docker.errors import ImageNotFound

        with explained(f"looking at {reference}"):
            try:
                return str(self._image(reference)["Id"])
            except ImageNotFound:
                return ""

    def _image(self, reference: str) -> dict[str, Any]:
        found: dict[str, Any] = self._client.inspect_image(reference)  # type: ignore[no-untyped-call]
        return found

    def host_address(self) -> str:
        """The address of this machine that containers reach and other hosts do not; empty where it is not here."""
        with explained("looking at the bridge network"):
            networks = self._client.networks(names=["bridge"])
        about: dict[str, str] = next((one for network in networks for one in network["IPAM"]["Config"] or ()), {})
        subnet = about.get("Subnet")  # some engines name the gateway only where an operator chose it
        address = about.get("Gateway") or (str(next(ip_network(subnet).hosts())) if subnet else "127.0.0.1")
        try:
            socket.create_server((address, 0)).close()
        except OSError:  # the engine runs in a virtual machine
            return ""
        return "" if address == "127.0.0.1" else address

    def has_or_pulls(self, reference: str, progress: Progress = unseen) -> bool:
        if self._image_id(reference):
            return True
        try:
            self._pull(reference, progress)
        except PreflightError:
            return False
        return True

    # What is missing before containers can start

    def needs(self, plan: Plan) -> tuple[Operation, ...]:
        """Images, network and volumes that the plan's containers lack."""
        specs = {one.spec.name: one.spec for one in plan.operations if one.spec is not None}
        if not specs:
            return ()
        images = {spec.container.image: spec for spec in specs.values() if spec.container}
        found = []
        for reference, spec in images.items():
            assert spec.container is not None
            if spec.container.image_id:
                continue
            if reference in self._own:
                found.append(Operation(Kind.BUILD, reference, 0, "none of these sources is there", spec))
            else:
                found.append(Operation(Kind.PULL, reference, 0, "the engine does not have it", spec))
        with explained("listing networks and volumes"):
            networks = self._client.networks(filters=self._ours)
            there = {one["Name"] for one in self._client.volumes(filters=self._ours)["Volumes"] or ()}
        if not networks:
            found.append(Operation(Kind.CREATE, f"network {self._project}", 0, "none carries the project's label"))
        mounted = {mount.source for spec in specs.values() if spec.container for mount in spec.container.mounts}
        found += [
            Operation(Kind.CREATE, f"volume {one.name}", 0, "none carries the project's label")
            for one in self._volumes
            if one.name in mounted and one.name not in there
        ]
        return tuple(found)

    def leftovers(self, *, with_volumes: bool) -> tuple[Operation, ...]:
        """What is removed after the last container."""
        with explained("listing networks and volumes"):
            networks = [one["Name"] for one in self._client.networks(filters=self._ours)]
            volumes = [one["Name"] for one in self._client.volumes(filters=self._ours)["Volumes"] or ()]
        found = [Operation(Kind.REMOVE, f"network {name}", 0, "down was asked for") for name in networks]
        found += [
            Operation(Kind.REMOVE, f"volume {name}", 0, "--volumes was asked for")
            for name in sorted(volumes)
            if with_volumes
        ]
        return tuple(found)

    def check(self, plan: Plan) -> None:
        """The engine's disk and memory, and every fixed port, which is free or held by the replica that is replaced."""
        starting = [one for one in plan.operations if one.spec is not None and one.index]
        if not starting:
            return
        self._check_room([one.spec for one in starting if one.spec is not None])
        self._check_volumes()
        held = {(r.name, number) for r in self.observe().replicas for number in r.ports.values()}
        claimed: dict[int, str] = {}
        for operation in starting:
            assert operation.spec is not None
            for port in operation.spec.ports:
                if operation.index > 1 or not port.number or not port.is_published:
                    continue
                if other := claimed.get(port.number):
                    raise PreflightError(
                        f"{port.variable} and {other} are both {port.number}", remedy="give them a port each"
                    )
                claimed[port.number] = port.variable
                if (operation.replica, port.number) not in held and (fault := self._port_fault(port)):
                    raise PreflightError(
                        f"{operation.service} needs port {port.number} ({port.name}), which is {fault}",
                        remedy=f"end what holds it, or set {port.variable} to another port",
                    )

    def _check_volumes(self) -> None:
        """A volume keeps the folder that it was made with."""
        wanted = {one.name: one.path for one in self._volumes}
        with explained("listing volumes"):
            there = self._client.volumes(filters=self._ours)["Volumes"] or ()
        for one in there:
            device, path = (one["Options"] or {}).get("device", ""), wanted.get(one["Name"])
            if path is not None and device != path:
                raise PreflightError(
                    f"volume {one['Name']} is {device or 'kept by the engine'}; by the settings it would be {path}",
                    remedy=f"`docker volume rm {one['Name']}` forgets it (a folder keeps its files), or set another "
                    "project.name",
                )

    def _check_room(self, specs: Sequence[ServiceSpec]) -> None:
        wanted = sum(spec.container.memory_mb for spec in specs if spec.container) * 1024 * 1024
        if 0 < self._about.get("MemTotal", 0) < wanted / 2:
            raise PreflightError(
                f"the engine has {self._about['MemTotal'] / _GIB:.1f} GiB of memory; these containers may use up to "
                f"{wanted / _GIB:.1f} GiB",
                remedy='give it more, lower the number of replicas, or use stream.kind = "sqlite" to go without Kafka',
            )
        root = self._about.get("DockerRootDir", "")
        with contextlib.suppress(OSError):  # a remote engine's, or a virtual machine's
            free = shutil.disk_usage(root).free if is_local(self._address) and root else None
            if free is not None and free < self._min_free_gb * 1e9:
                raise PreflightError(
                    f"{free / 1e9:.1f} GB are free below {root}, where the engine keeps its data; "
                    f"docker.min_free_gb asks for {self._min_free_gb:g}",
                    remedy="free some: `docker system df` shows what takes it, `docker system prune` drops what "
                    "nothing uses",
                )

    def _port_fault(self, port: Port) -> str:
        with explained("listing containers"):
            for one in self._client.containers():
                if any(bound.get("PublicPort") == port.number for bound in one["Ports"]):
                    project = one["Labels"].get(PROJECT)
                    of = f", of project {project}" if project else ""
                    return f"taken by the container {one['Names'][0].lstrip('/')}{of}"
        return port_fault(port.host, port.number) if is_local(self._address) else ""

    # One step

    def apply(self, operation: Operation, progress: Progress = unseen) -> Applied:
        with explained(f"{operation.kind} {operation.replica}"):
            match operation.kind:
                case Kind.BUILD:
                    self.build(operation.service, progress)
                case Kind.PULL:
                    self._pull(operation.service, progress)
                case Kind.CREATE | Kind.REMOVE:
                    self._resource(operation)
                case Kind.STOP:
                    return Applied(None, self._remove(operation))
                case Kind.START | Kind.REPLACE | Kind.ADOPT:
                    was_killed = self._remove(operation)
                    return Applied(self._start(operation), was_killed)
        return Applied(None)

    def _resource(self, operation: Operation) -> None:
        what, _, name = operation.service.partition(" ")
        labels = {PROJECT: self._project}
        match operation.kind, what:
            case Kind.CREATE, "network":
                self._client.create_network(name, driver="bridge", labels=labels, check_duplicate=True)
            case Kind.CREATE, _:
                volume = next(one for one in self._volumes if one.name == name)
                options = {"type": "none", "o": "bind", "device": volume.path} if volume.path else {}
                self._client.create_volume(name, driver="local", driver_opts=options, labels=labels)
            case _, "network":
                self._client.remove_network(name)
            case _:
                self._client.remove_volume(name)

    def _named(self, replica: str) -> list[dict[str, Any]]:
        service, _, index = replica.rpartition("-")
        labels = [f"{PROJECT}={self._project}", f"{SERVICE}={service}", f"{REPLICA}={index}"]
        found: list[dict[str, Any]] = self._client.containers(all=True, filters={"label": labels})
        return found

    def _remove(self, operation: Operation) -> bool:
        """True when it had to be killed."""
        was_killed = False
        for one in self._named(operation.replica):
            grace_s = int(one["Labels"].get(Label.GRACE_S, "15"))
            if one["State"] in ("running", "restarting", "paused"):
                self._client.stop(one["Id"], timeout=grace_s)
                ended = self._inspect(one["Id"])
                was_killed |= ended is not None and ended["State"]["ExitCode"] == _KILLED
            self._client.remove_container(one["Id"], force=True)
        return was_killed

    def _start(self, operation: Operation) -> int | None:
        assert operation.spec is not None
        (spec,) = self.resolve([operation.spec])
        container = spec.container
        assert container is not None
        if not container.image_id:
            raise no_image(f"starting {operation.replica}", f"the engine has no image {container.image}")
        client, name = self._client, f"{self._project}-{operation.replica}"
        endpoints: Any = {self._network(): client.create_endpoint_config(aliases=[spec.name, operation.replica])}
        env = {**spec.env, **spec.secrets, **{port.variable: str(port.inside) for port in spec.ports}}
        made = client.create_container(
            container.image,
            command=list(spec.command) or None,
            name=name,
            # Static members of a Kafka group are told apart by it, also those of another engine.
            hostname=str(self._about["Name"])[:63],
            user=container.user or None,
            environment={**env, "SENTINEL_REPLICA": operation.replica},
            labels=self._labels(spec, operation.index),
            ports=[port.inside for port in spec.ports if port.is_published],
            healthcheck={
                "test": ["CMD", *container.probe],
                "interval": _HEALTH_EVERY_S * _SECOND,
                "timeout": 5 * _SECOND,
                "retries": 3,
                "start_period": 30 * _SECOND,
            },
            stop_signal="SIGTERM",
            networking_config=client.create_networking_config(endpoints),
            host_config=client.create_host_config(
                mounts=[_mounted(mount) for mount in container.mounts],
                port_bindings={port.inside: _bound(port, operation.index) for port in spec.ports if port.is_published},
                network_mode=self._network(),
                restart_policy={"Name": "unless-stopped"},
                init=True,
                **_confined(container),
            ),
        )
        client.start(made["Id"])
        started = self._inspect(made["Id"])
        return started["State"]["Pid"] or None if started else None

    def _network(self) -> str:
        found = self._client.networks(filters=self._ours)
        if not found:
            raise SentinelError(
                f"no network carries the label {PROJECT}={self._project}", remedy="`sentinelctl up` makes it"
            )
        return str(found[0]["Name"])

    def _labels(self, spec: ServiceSpec, index: int) -> dict[str, str]:
        assert spec.container is not None
        identity = json.dumps(spec.identity, sort_keys=True)
        return {
            PROJECT: self._project,
            SERVICE: spec.name,
            REPLICA: str(index),
            SPEC: hashlib.sha256(identity.encode()).hexdigest(),
            IDENTITY: identity,
            IMAGE: spec.container.image_id,
            PORTS: json.dumps({port.name: port.inside for port in spec.ports}),
            Label.GRACE_S: str(int(spec.grace_s)),
        }

    # Images

    def build(self, reference: str, progress: Progress = unseen, *, is_fresh: bool = False) -> int:
        """Builds one of ours, and returns its size in bytes. `is_fresh`: from nothing that the engine kept."""
        image = self._own[reference]
        lines: list[str] = []
        with explained(f"building {reference}"):
            for line in self._client.build(
                fileobj=image.context(), custom_context=True, tag=reference, decode=True, rm=True, forcerm=True,
                nocache=is_fresh, buildargs={"BASE": self._base}, labels={"sentinel.sources": reference},
            ):  # fmt: skip
                if fault := line.get("error"):
                    self._give_up(reference, fault, lines)
                if text := line.get("stream", "").strip():
                    lines.append(text)
                    if text.startswith("Step "):
                        done, _, of = text.split(" ")[1].partition("/")
                        progress(f"build {reference}", int(done), int(of))
        return self.size(reference)

    def size(self, reference: str) -> int:
        """In bytes, with all it is built on."""
        with explained(f"looking at {reference}"):
            return int(self._image(reference)["Size"])

    def tag(self, reference: str, also: str) -> None:
        """Gives an image another name."""
        repository, _, tag = also.rpartition(":")
        with explained(f"tagging {reference}"):
            self._client.tag(reference, repository, tag, force=True)

    def _give_up(self, reference: str, fault: str, lines: Sequence[str]) -> None:
        shown = "".join(f"\n  {line}" for line in lines[-10:])
        low = fault.lower()
        if lines and lines[-1].startswith("Step") and " FROM " in lines[-1] and "pace left" not in low:
            raise no_image(f"building {reference}: its base, images.python = {self._base!r}, cannot be had", fault)
        if "no space left" in low:
            raise PreflightError(
                f"building {reference}: the engine's disk is full: {fault}",
                remedy="free some: `docker system df` shows what takes it, `docker system prune` drops the rest",
            )
        raise SentinelError(
            f"building {reference}: {fault}; its last lines:{shown}",
            remedy="packages come from PyPI: check that containers reach it (`docker run --rm IMAGE pip download pip`)",
        )

    def _pull(self, reference: str, progress: Progress) -> None:
        from docker.utils import parse_repository_tag

        layers: dict[str, tuple[int, int]] = {}
        repository, tag = parse_repository_tag(reference)  # or a digest
        with explained(f"pulling {reference}"):
            for line in self._client.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if fault := line.get("error"):
                    raise no_image(f"pulling {reference}", fault)
                detail = line.get("progressDetail") or {}
                if line.get("status") == "Downloading" and detail.get("total"):
                    layers[line["id"]] = detail["current"], detail["total"]
                    progress(
                        f"pull {reference}",
                        sum(done for done, _ in layers.values()),
                        sum(of for _, of in layers.values()),
                    )

    # How replicas fare

    def answer_fault(self, replica: Replica) -> str:
        """Asks by the probe's own command, now, rather than by what the engine last noted."""
        found = next(iter(self._named(replica.name)), None)
        about = self._inspect(found["Id"]) if found else None
        if about is None:
            return "gone: no container"
        test = (about["Config"].get("Healthcheck") or {}).get("Test") or ["NONE"]
        if test[0] != "CMD":
            return ""
        code, said = self._inside(about["Id"], f"asking {replica.name}", test[1:])
        return "" if code == 0 else f"not-ready: {said or f'its probe exits {code}'}"

    def inside(self, replica: Replica, command: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of a command in its container; -1 and why where it could not be run."""
        found = next(iter(self._named(replica.name)), None)
        if found is None or found["State"] != "running":
            return -1, "gone: no container runs"
        return self._inside(found["Id"], f"asking {replica.name}", command)

    def _inside(self, container: str, doing: str, command: Sequence[str]) -> tuple[int, str]:
        from docker.errors import APIError

        with explained(doing):
            try:
                run = self._client.exec_create(container, list(command))
                said = self._client.exec_start(run["Id"]).decode(errors="replace").strip()
                return int(self._client.exec_inspect(run["Id"])["ExitCode"]), said
            except APIError as exc:  # it ended meanwhile
                return -1, str(exc.explanation)

    def signal(self, replica: Replica, number: signal.Signals) -> None:
        """By a command inside, to what runs below its init: the engine's own kill would keep it from being restarted,
        and a pid of this machine may be another engine's."""
        self.inside(replica, ["sh", "-c", _SIGNAL_BELOW_INIT, str(int(number))])

    def limit_files(self, replica: Replica, longest: int | None) -> bool:
        return self.inside(replica, ["sh", "-c", _LIMIT_BELOW_INIT, "" if longest is None else str(longest)])[0] == 0

    def leave_network(self, replica: Replica) -> None:
        """No packet goes in or out. For faults on purpose; harmless where it has left already, or is gone."""
        for one in self._named(replica.name):
            for network in (self._inspect(one["Id"]) or {}).get("NetworkSettings", {}).get("Networks", {}):
                with explained(f"cutting {replica.name} off"):
                    self._client.disconnect_container_from_network(one["Id"], network)

    def join_network(self, replica: Replica) -> None:
        """Reached by its names again. Harmless where it is in the project's network, or is gone."""
        network = self._network()
        for one in self._named(replica.name):
            if network not in (self._inspect(one["Id"]) or {}).get("NetworkSettings", {}).get("Networks", {network: 0}):
                with explained(f"connecting {replica.name}"):
                    self._client.connect_container_to_network(
                        one["Id"], network, aliases=[replica.service, replica.name]
                    )

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        with explained("listing containers"):
            listed = self._client.containers(filters=self._ours)
        names = {one["Id"]: f"{one['Labels'].get(SERVICE)}-{one['Labels'].get(REPLICA)}" for one in listed}
        with ThreadPoolExecutor(max(1, min(16, len(names)))) as threads:
            before = dict(zip(names, threads.map(self._stats, names), strict=True))
            time.sleep(over_s)
            after = dict(zip(names, threads.map(self._stats, names), strict=True))
        return {name: used for at, name in names.items() if (used := _usage(before[at], after[at])) is not None}

    def _stats(self, container: str) -> dict[str, Any]:
        """Empty for one that ended meanwhile."""
        from docker.errors import APIError

        try:
            found: dict[str, Any] = self._client.stats(container, stream=False, one_shot=True)
        except APIError:
            return {}
        return found

    # What they wrote

    def logged(self) -> list[str]:
        return sorted(one.name for one in self.observe().replicas)

    def logs(
        self, names: Collection[str], *, lines: int, follow: bool = False, until: Callable[[], bool] = never
    ) -> Iterator[LogLine]:
        last: dict[str, str] = {}
        with explained("reading logs"):
            rows = [row for container, name in self._speaking(names) for row in self._tail(container, name, lines)]
        for stamp, line in sorted(rows, key=lambda row: row[0]):
            last[line.replica] = stamp
            yield line
        if follow:
            yield from self._following(names, last, until)

    def _speaking(self, names: Collection[str]) -> list[tuple[str, str]]:
        listed = self._client.containers(all=True, filters=self._ours)
        found = [(one["Id"], f"{one['Labels'].get(SERVICE)}-{one['Labels'].get(REPLICA)}") for one in listed]
        return sorted((at, name) for at, name in found if name in names or name.rpartition("-")[0] in names)

    def _tail(self, container: str, name: str, lines: int) -> list[tuple[str, LogLine]]:
        body: bytes = self._client.logs(container, tail=lines, timestamps=True)
        return [_stamped(name, row) for row in body.splitlines()]

    def _following(self, names: Collection[str], last: dict[str, str], until: Callable[[], bool]) -> Iterator[LogLine]:
        """One thread a container, which ends with it; a container that starts again is read from where it was."""
        lines: queue.SimpleQueue[tuple[str, LogLine]] = queue.SimpleQueue()
        readers: dict[str, threading.Thread] = {}
        streams: list[Any] = []

        def read(container: str, name: str, since: str) -> None:
            client = connect(self._address)
            with contextlib.suppress(Exception):  # the container is gone; the next look finds what took its place
                at = datetime.fromisoformat(since[:26]).replace(tzinfo=UTC).timestamp() if since else None
                stream = client.logs(container, stream=True, follow=True, timestamps=True, since=at)
                streams.append(stream)
                for row in stream:
                    lines.put(_stamped(name, row.rstrip(b"\r\n")))
            client.close()

        try:
            while not until():
                for container, name in self._speaking(names):
                    reader = readers.get(container)
                    if reader is None or not reader.is_alive():
                        at = last.get(name, "")
                        readers[container] = threading.Thread(target=read, args=(container, name, at), daemon=True)
                        readers[container].start()
                deadline = time.monotonic() + _FOLLOW_S
                while (left_s := deadline - time.monotonic()) > 0:
                    with contextlib.suppress(queue.Empty):
                        stamp, line = lines.get(timeout=left_s)
                        if stamp > last.get(line.replica, ""):
                            last[line.replica] = stamp
                            yield line
        finally:
            for stream in streams:
                stream.close()
            for reader in readers.values():
                reader.join()

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close()
            del self.__dict__["_client"]


def _confined(container: Container) -> dict[str, Any]:
    """Nothing that a service does not need: section 6 of the design."""
    return {
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "tmpfs": {path: options for path, _, options in (one.partition(":") for one in container.scratch)},
        "mem_limit": f"{container.memory_mb}m",
        "memswap_limit": f"{container.memory_mb}m",
        "pids_limit": container.pids,
        "group_add": [str(group) for group in container.groups],
        "extra_hosts": dict.fromkeys(container.hosts, "host-gateway"),
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }


def _mounted(mount: Mount) -> "docker.types.Mount":
    """As the engine's own mounts, which refuse a file that is not there; its binds would make a folder of that name."""
    from docker.types import Mount as Mounted

    is_file = mount.source.startswith("/")
    return Mounted(mount.target, mount.source, type="bind" if is_file else "volume", read_only=mount.is_read_only)


def _bound(port: Port, index: int) -> tuple[str, ...] | tuple[str, int]:
    """The first replica has the port's number; the others, and 0, a free one."""
    return (port.host, port.number) if index == 1 and port.number else (port.host,)


def _replica(about: Mapping[str, Any]) -> Replica:
    labels, state = about["Config"]["Labels"], about["State"]
    status, ended = _status(state)
    index = labels.get(REPLICA, "")
    return Replica(
        service=labels.get(SERVICE, about["Name"].lstrip("/")),
        index=int(index) if index.isdecimal() else 0,
        identity=_identity(labels.get(IDENTITY, "")),
        status=status,
        pid=state["Pid"] or None,
        started=f"{about['Id'][:12]} {state['StartedAt']}",
        started_at=_seconds(state["StartedAt"]),
        ports=_host_ports(labels.get(PORTS, "{}"), about["NetworkSettings"]["Ports"] or {}),
        restarts=about["RestartCount"],
        failures=_failures(state, about["RestartCount"]),
        last_exit=ended,
    )


def _status(state: Mapping[str, Any]) -> tuple[Status, str]:
    """What it does, and how it last ended."""
    ended = f"exit {state['ExitCode']}" + (" (out of memory)" if state.get("OOMKilled") else "")
    match state["Status"]:
        case "running":
            return Status.RUNNING, ""  # the engine forgets how the run before it ended
        case "restarting":
            return Status.BACKING_OFF, ended
        case "created":
            return Status.STOPPED, state.get("Error") or "never started"
        case "removing":
            return Status.DRAINING, ""
        case other:
            return Status.STOPPED, f"{other}: {state.get('Error') or ended}"


def _failures(state: Mapping[str, Any], restarts: int) -> int:
    if state["Status"] == "restarting":
        return restarts
    return restarts if time.time() - _seconds(state["StartedAt"]) < _STEADY_S else 0


def _seconds(stamp: str) -> float:
    return 0.0 if stamp.startswith(_NO_TIME) else datetime.fromisoformat(f"{stamp[:19]}+00:00").timestamp()


def _identity(label: str) -> Mapping[str, str]:
    """Empty, which no service is, where somebody else wrote the label."""
    with contextlib.suppress(ValueError):
        found = json.loads(label)
        if isinstance(found, dict):
            return found
    return {}


def _host_ports(label: str, published: Mapping[str, Any]) -> dict[str, int]:
    found = {}
    for name, inside in json.loads(label).items():
        if bound := published.get(f"{inside}/tcp"):
            found[name] = int(bound[0]["HostPort"])
    return found


def _usage(before: Mapping[str, Any], after: Mapping[str, Any]) -> Usage | None:
    """Memory without the files that the kernel keeps at hand, as `docker stats` has it."""
    if not before or not after.get("memory_stats", {}).get("usage"):
        return None
    first, last, memory = before["cpu_stats"], after["cpu_stats"], after["memory_stats"]
    used = last["cpu_usage"]["total_usage"] - first["cpu_usage"]["total_usage"]
    passed = last["system_cpu_usage"] - first["system_cpu_usage"]
    cached = memory["stats"].get("total_inactive_file", memory["stats"].get("inactive_file", 0))
    percent = 100 * used / passed * last["online_cpus"] if passed > 0 else 0.0
    return Usage(round(percent, 1), memory["usage"] - cached)


def _stamped(replica: str, row: bytes) -> tuple[str, LogLine]:
    stamp, _, text = row.decode(errors="replace").partition(" ")
    return stamp, LogLine(replica, text)
