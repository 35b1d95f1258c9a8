"""What a place that runs services can do. Everything above it works on each of them."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

from sentinelctl.state import ObservedState, Operation, Plan


@dataclass(frozen=True, slots=True)
class Applied:
    """What came of one operation. `was_killed`: it did not drain within its grace and was ended by force."""

    pid: int | None
    was_killed: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one replica. `cpu_percent`: of one core."""

    cpu_percent: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line as the process wrote it, without its newline."""

    replica: str
    text: str


class Runtime(Protocol):
    name: str

    def observe(self) -> ObservedState: ...

    def check(self, plan: Plan) -> None:
        """Raises PreflightError when the plan cannot work (a port is taken); changes nothing."""

    def apply(self, operation: Operation) -> Applied:
        """Does one step and returns when it is done; a started process need not be ready by then."""

    def logs(self, names: Collection[str], *, lines: int, follow: bool = False) -> Iterator[LogLine]:
        """The last `lines` of each replica that is named, or whose service is, in time order.

        With `follow`, then what comes, without end, also of replicas that start later.
        """

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        """By replica, measured over this long."""

    def close(self) -> None:
        """Releases what this object holds; services run on."""
