"""What a place that runs services can do. Everything above it works on each of them."""

import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sentinelctl.state import ObservedState, Operation, Plan, Replica, ServiceSpec


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


Progress = Callable[[str, int, int], None]


def unseen(_what: str, _done: int, _of: int) -> None:
    """Nobody looks."""


def never() -> bool:
    return False


class Runtime(Protocol):
    name: str
    at_once: int
    """Operations that it takes side by side."""

    def observe(self) -> ObservedState: ...

    def resolve(self, desired: Sequence[ServiceSpec]) -> tuple[ServiceSpec, ...]:
        """The same, with what only the runtime knows: by which image each would run."""

    def needs(self, plan: Plan) -> tuple[Operation, ...]:
        """What has to be there before the plan: images, a network, volumes."""

    def leftovers(self, *, with_volumes: bool) -> tuple[Operation, ...]:
        """What is removed after the last replica."""

    def check(self, plan: Plan) -> None:
        """Raises PreflightError when the plan cannot work (a port is taken); changes nothing."""

    def apply(self, operation: Operation, progress: Progress = unseen) -> Applied:
        """Does one step and returns when it is done; a started process need not be ready by then.

        progress: told of what takes long, as (what, how far, of how much).
        """

    def answer_fault(self, replica: Replica) -> str:
        """What a running replica answers its probe, after `not-ready: `; empty when it is ready."""

    def signal(self, replica: Replica, number: signal.Signals) -> None:
        """To its process, behind the back of whoever restarts it; SIGSTOP and SIGCONT to those it started, too.

        For faults on purpose. Harmless where it is gone.
        """

    def limit_files(self, replica: Replica, longest: int | None) -> bool:
        """No file that the processes it started write may grow beyond so many bytes; None: what is true of itself.

        For faults on purpose. False where that cannot be, or it is gone.
        """

    def logged(self) -> list[str]:
        """Replicas that have a log."""

    def logs(
        self, names: Collection[str], *, lines: int, follow: bool = False, until: Callable[[], bool] = never
    ) -> Iterator[LogLine]:
        """The last `lines` of each replica that is named, or whose service is, in time order.

        With `follow`, then what comes, also of replicas that start later; about a second after `until`, it ends.
        """

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        """By replica, measured over this long."""

    def close(self) -> None:
        """Releases what this object holds; services run on."""
