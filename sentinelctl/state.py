"""What should run and what does: the words that the planner and the runtimes share. Standard library only."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a service. `number` is the first replica's; 0, and every further replica, takes a free one."""

    name: str
    variable: str
    """The environment variable that tells the process its number."""
    number: int
    host: str = "127.0.0.1"
    inside: int = 0
    """What it listens on in a container; `number` is then what this machine knows it by."""
    is_published: bool = True
    """False: in containers it is reached on their own network alone."""

    @property
    def reachable(self) -> str:
        """Where this machine reaches what listens on `host`."""
        return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104

    def at(self, number: int) -> str:
        return f"[{self.reachable}]:{number}" if ":" in self.reachable else f"{self.reachable}:{number}"


@dataclass(frozen=True, slots=True)
class Probe:
    """Ready when a GET of `path` on the port of this name answers 200."""

    port: str
    path: str = "/ready"


@dataclass(frozen=True, slots=True)
class Mount:
    """`source`: a volume's name, or the absolute path of a file of this machine."""

    source: str
    target: str
    is_read_only: bool = False

    def __str__(self) -> str:
        return f"{self.source}:{self.target}" + (":ro" if self.is_read_only else "")


@dataclass(frozen=True, slots=True)
class Volume:
    """Data that outlives containers. `path`: the folder of this machine that it is; empty: the engine keeps it."""

    name: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """What a service is given where it runs in a container."""

    image: str
    user: str
    memory_mb: int
    probe: tuple[str, ...]
    """A command inside of it that exits 0 when it is ready."""
    mounts: tuple[Mount, ...] = ()
    scratch: tuple[str, ...] = ("/tmp",)  # noqa: S108
    """Folders it may write to and that end with it, PATH[:OPTIONS]; the rest of its file system is read-only."""
    pids: int = 256
    hosts: tuple[str, ...] = ()
    """Names of this machine itself."""
    groups: tuple[int, ...] = ()
    """Whose rights its user has beside its own."""
    image_id: str = ""
    """Of the image as the engine has it; empty while it has none."""

    @property
    def identity(self) -> dict[str, str]:
        return {
            "image": f"{self.image} {self.image_id}",
            "user": self.user,
            "memory": str(self.memory_mb),
            "probe": shlex.join(self.probe),
            "mounts": " ".join(map(str, self.mounts)),
            "scratch": " ".join(self.scratch),
            "pids": str(self.pids),
            "hosts": " ".join(self.hosts),
            "groups": " ".join(map(str, self.groups)),
        }


@dataclass(frozen=True, slots=True)
class ServiceSpec:
    """The desired state of one service. Secrets reach the environment of its processes and nothing else."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    digests: Mapping[str, str] = field(default_factory=dict)
    """A keyed digest of each secret, by which a rotation is noticed."""
    ports: tuple[Port, ...] = ()
    probe: Probe | None = None
    publishes: str = ""
    """Name of the port whose addresses, one of each replica, stand in the state folder's endpoints/<service>."""
    replicas: int = 1
    configured: int = 1
    """What the settings ask for, before an operator's or the autoscaler's count."""
    max_replicas: int | None = None
    grace_s: float = 15.0
    """From SIGTERM to SIGKILL."""
    version: str = ""
    is_gate: bool = False
    """What comes after it in the start order waits until it is ready."""
    container: Container | None = None

    @property
    def identity(self) -> dict[str, str]:
        """What a replica was started with; another one means that it must be replaced. No replica count, no secret."""
        return {
            "command": shlex.join(self.command),
            "version": self.version,
            **self.env,
            **self.digests,
            **(self.container.identity if self.container else {}),
            **{port.variable: str(port.number) for port in self.ports},
        }

    def document(self) -> dict[str, Any]:
        """All of it, secrets included: for the supervisor's socket and nothing else."""
        return asdict(self)

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """Raises TypeError for the words of another version."""
        probe = document["probe"]
        lists = {"command": tuple(document["command"]), "ports": tuple(Port(**port) for port in document["ports"])}
        return cls(**{**document, **lists, "probe": Probe(**probe) if probe else None})

    def environment(self, replica: "Replica") -> dict[str, str]:
        """Of its process."""
        numbers = {port.variable: str(replica.ports[port.name]) for port in self.ports}
        return {**self.env, **self.secrets, **numbers, "SENTINEL_REPLICA": replica.name}

    def replica(self, index: int, ports: Mapping[str, int]) -> "Replica":
        """One that listens on these, as other processes of this machine reach it."""
        at = {port.name: port.at(ports[port.name]) for port in self.ports}
        return Replica(
            service=self.name,
            index=index,
            identity=self.identity,
            ports=ports,
            probe=f"http://{at[self.probe.port]}{self.probe.path}" if self.probe else "",
            address=at[self.publishes] if self.publishes else "",
        )


class Status(StrEnum):
    RUNNING = "running"
    BACKING_OFF = "backing-off"
    STOPPED = "stopped"
    DRAINING = "draining"


@dataclass(frozen=True, slots=True)
class Replica:
    """One observed copy of a service, also as a runtime remembers it."""

    service: str
    index: int
    """From 1."""
    identity: Mapping[str, str]
    status: Status = Status.RUNNING
    is_supervised: bool = True
    """False after its supervisor died: it serves, but nobody would restart it."""
    pid: int | None = None
    started: str = ""
    """Tells this process from a later one with the same pid."""
    started_at: float = 0.0
    """Unix seconds."""
    ports: Mapping[str, int] = field(default_factory=dict)
    probe: str = ""
    """The URL that answers 200 when it is ready; empty: running is enough."""
    address: str = ""
    """The HOST:PORT that other services are told."""
    restarts: int = 0
    failures: int = 0
    """Ends in a row, each soon after its start."""
    last_exit: str = ""

    @property
    def name(self) -> str:
        return f"{self.service}-{self.index}"

    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ObservedState:
    replicas: tuple[Replica, ...] = ()
    supervisor_pid: int | None = None

    def of(self, service: str) -> tuple[Replica, ...]:
        """By number."""
        return tuple(sorted((r for r in self.replicas if r.service == service), key=lambda replica: replica.index))


class Kind(StrEnum):
    START = "start"
    STOP = "stop"
    REPLACE = "replace"
    ADOPT = "adopt"
    """Takes a running process that lost its supervisor under watch, without interrupting it."""
    BUILD = "build"
    PULL = "pull"
    CREATE = "create"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Operation:
    """One atomic step on one replica, and why; or, with the index 0, on what replicas need: an image, a network."""

    kind: Kind
    service: str
    index: int
    cause: str
    spec: ServiceSpec | None = field(default=None, repr=False)
    """Of what runs afterwards; None for a stop."""

    @property
    def replica(self) -> str:
        return f"{self.service}-{self.index}" if self.index else self.service

    def document(self) -> dict[str, str]:
        return {"operation": self.kind.value, "replica": self.replica, "cause": self.cause}


@dataclass(frozen=True, slots=True)
class Plan:
    operations: tuple[Operation, ...] = ()

    def document(self) -> list[dict[str, str]]:
        return [operation.document() for operation in self.operations]
