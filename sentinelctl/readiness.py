"""Waits until replicas are ready. What it raises shows the last state seen and the last log lines."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sentinelctl.errors import UnhealthyError
from sentinelctl.logline import fields, readable
from sentinelctl.runtime.base import Runtime
from sentinelctl.state import Replica, Status

CRASH_LOOP: Final = 3
"""Ends in a row after which waiting longer is pointless."""
_POLL_S: Final = 0.05
_ASKED_AT_ONCE: Final = 8
_SHOWN_LINES: Final = 50


def probe_fault(runtime: Runtime, replica: Replica) -> str:
    """Empty when it is ready; else not-ready, draining, stopped, crashed or crash-loop, and what was seen."""
    if replica.status is Status.DRAINING:
        return "draining: it was told to end"
    if replica.status is Status.STOPPED:
        return f"stopped: {replica.last_exit}"
    fault = f"crashed: {replica.last_exit}" if replica.status is Status.BACKING_OFF else runtime.answer_fault(replica)
    if fault and replica.failures >= CRASH_LOOP:
        how = replica.last_exit or "it ended soon after its start"
        return f"crash-loop: {how}, {replica.failures} times in a row"
    return fault


def wait_ready(
    runtime: Runtime,
    replicas: Collection[str],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once all of `replicas` are ready. Raises UnhealthyError with the evidence, at once on a crash loop.

    As long as the first is not ready, no other is asked: they start on the cores that asking takes, too.
    """
    deadline = clock() + timeout_s
    waiting = list(replicas)
    while waiting:
        observed = {replica.name: replica for replica in runtime.observe().replicas}

        def fault(name: str, observed: Mapping[str, Replica] = observed) -> str:
            return probe_fault(runtime, observed[name]) if name in observed else "gone: not running"

        faults = {waiting[0]: fault(waiting[0])}
        if not faults[waiting[0]]:
            with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
                faults |= zip(waiting[1:], threads.map(fault, waiting[1:]), strict=True)
        waiting = [name for name in waiting if faults.get(name, "not asked")]
        hopeless = [name for name in waiting if name in observed and observed[name].failures >= CRASH_LOOP]
        if hopeless or (waiting and clock() >= deadline):
            name = (hopeless or waiting)[0]
            raise UnhealthyError(
                _evidence(runtime, name, faults.get(name) or fault(name), None if hopeless else timeout_s),
                remedy=f"`sentinelctl logs {name}` shows all of it, `sentinelctl doctor` what this machine lacks; "
                "after the cause is gone, `sentinelctl up` goes on from here",
            )
        if waiting:
            sleep(_POLL_S)


def _evidence(runtime: Runtime, name: str, fault: str, timeout_s: float | None) -> str:
    waited = f" after {timeout_s:g} s" if timeout_s is not None else ""
    lines = _of_its_last_run([line.text for line in runtime.logs({name}, lines=_SHOWN_LINES)])
    shown = "".join(f"\n  {row}" for line in lines for row in readable(line).plain.split("\n"))
    return f"{name} is not ready{waited} ({fault}); its last log lines:{shown or ' none'}"


def _of_its_last_run(lines: Sequence[str]) -> Sequence[str]:
    """From its last start on; one that has said nothing yet is shown with the run before it."""
    starts = [at for at, line in enumerate(lines[:-1]) if fields(line).get("event") == "replica.started"]
    return lines[starts[-1] :] if starts else lines
