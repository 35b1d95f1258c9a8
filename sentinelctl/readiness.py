"""Waits until replicas are ready. What it raises shows the last state seen and the last log lines."""

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from sentinelctl.errors import UnhealthyError
from sentinelctl.logline import fields, readable
from sentinelctl.runtime.base import Runtime
from sentinelctl.state import Replica, Status

CRASH_LOOP: Final = 3
"""Ends in a row after which waiting longer is pointless."""
_POLL_S: Final = 0.05
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


def probe_faults(runtime: Runtime, replicas: Sequence[Replica]) -> dict[str, str]:
    """Of each by name, all asked at once: in a container each probe is a process of its own."""
    with ThreadPoolExecutor(max(1, min(16, len(replicas)))) as threads:
        faults = threads.map(partial(probe_fault, runtime), replicas)
        return dict(zip((replica.name for replica in replicas), faults, strict=True))


def wait_ready(
    runtime: Runtime,
    replicas: Collection[str],
    timeout_s: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Returns once all of `replicas` are ready. Raises UnhealthyError with the evidence, at once on a crash loop."""
    deadline = clock() + timeout_s
    waiting = list(replicas)
    while waiting:
        observed = {replica.name: replica for replica in runtime.observe().replicas}
        faults = dict.fromkeys(waiting, "gone: not running") | probe_faults(
            runtime, [observed[name] for name in waiting if name in observed]
        )
        waiting = [name for name in waiting if faults[name]]
        hopeless = [name for name in waiting if name in observed and observed[name].failures >= CRASH_LOOP]
        if hopeless or (waiting and clock() >= deadline):
            name = (hopeless or waiting)[0]
            raise UnhealthyError(
                _evidence(runtime, name, faults[name], None if hopeless else timeout_s),
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
