from collections.abc import Collection, Iterator, Sequence

import pytest

from sentinelctl.errors import Exit, UnhealthyError
from sentinelctl.readiness import probe_fault, wait_ready
from sentinelctl.runtime.base import Applied, LogLine, Progress, Usage, unseen
from sentinelctl.state import ObservedState, Operation, Plan, Replica, ServiceSpec, Status


class Scripted:
    """A runtime that shows one state after the other, then the last one for ever."""

    name = "scripted"
    at_once = 1

    def __init__(self, *states: tuple[Replica, ...]) -> None:
        self.states = list(states)
        self.answers: dict[str, str] = {}
        self.wrote = ["no module named torch\x1b[2J"]

    def observe(self) -> ObservedState:
        return ObservedState(self.states.pop(0) if len(self.states) > 1 else self.states[0])

    def check(self, plan: Plan) -> None: ...

    def resolve(self, desired: Sequence[ServiceSpec]) -> tuple[ServiceSpec, ...]:
        return tuple(desired)

    def needs(self, plan: Plan) -> tuple[Operation, ...]:
        return ()

    def leftovers(self, *, with_volumes: bool) -> tuple[Operation, ...]:
        return ()

    def answer_fault(self, replica: Replica) -> str:
        return self.answers.get(replica.name, "")

    def logged(self) -> list[str]:
        return []

    def apply(self, operation: Operation, progress: Progress = unseen) -> Applied:
        raise NotImplementedError

    def logs(self, names: Collection[str], *, lines: int, follow: bool = False) -> Iterator[LogLine]:
        yield from (LogLine(name, text) for name in names for text in self.wrote)

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        return {}

    def close(self) -> None: ...


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def wait(runtime: Scripted, *names: str, timeout_s: float = 10.0) -> float:
    clock = Clock()
    wait_ready(runtime, names, timeout_s, clock=lambda: clock.now, sleep=clock.sleep)
    return clock.now


READY = Replica("a", 1, {}, pid=1)
CRASHED = Replica("a", 1, {}, status=Status.BACKING_OFF, failures=1, last_exit="exit 1")
LOOPING = Replica("a", 1, {}, status=Status.BACKING_OFF, failures=3, last_exit="exit 1")


def test_it_waits_through_a_crash_that_is_followed_by_a_good_start() -> None:
    assert wait(Scripted((), (CRASHED,), (READY,)), "a-1") > 0


def test_a_deadline_shows_the_last_state_the_last_log_lines_and_what_to_do() -> None:
    with pytest.raises(UnhealthyError) as caught:
        wait(Scripted((CRASHED,)), "a-1", timeout_s=5)
    assert "a-1 is not ready after 5 s (crashed: exit 1)" in caught.value.message
    assert "no module named torch\\x1b[2J" in caught.value.message
    assert "sentinelctl logs a" in caught.value.remedy
    assert caught.value.exit_code == Exit.UNHEALTHY


def test_the_evidence_is_of_the_last_run_that_said_something() -> None:
    runtime = Scripted((CRASHED,))
    start = '{"event": "replica.started", "level": "info"}'
    runtime.wrote = ["long ago", start, '{"event": "refused", "error": "no weights", "exception": "a\\nb"}', start]
    with pytest.raises(UnhealthyError) as caught:
        wait(runtime, "a-1", timeout_s=0)
    shown = caught.value.message.splitlines()[1:]
    assert [line.split() for line in shown] == [
        ["info", "replica.started"], ["info", "refused", "error=no", "weights"], ["a"], ["b"],
        ["info", "replica.started"],
    ]  # fmt: skip


def test_a_crash_loop_is_not_waited_for() -> None:
    with pytest.raises(UnhealthyError, match="crash-loop: exit 1, 3 times in a row"):
        wait(Scripted((LOOPING,)), "a-1", timeout_s=float("inf"))


def test_what_a_replica_answers_decides() -> None:
    runtime = Scripted((READY,))
    assert probe_fault(runtime, READY) == ""
    runtime.answers["a-1"] = "not-ready: 503"
    assert probe_fault(runtime, READY) == "not-ready: 503"


def test_one_that_was_stopped_by_hand_is_not_asked() -> None:
    stopped = Replica("a", 1, {}, status=Status.STOPPED, last_exit="exited: exit 0")
    assert probe_fault(Scripted((stopped,)), stopped) == "stopped: exited: exit 0"
