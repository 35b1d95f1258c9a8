"""The process that makes the load: a job as JSON on stdin, what it saw as JSON on stdout.

It shares its core with nothing of the target's, and says whether it could keep its schedule.
"""

import asyncio
import gc
import json
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from sentinelctl.bench.arrivals import Stage, schedule, stage_of
from sentinelctl.bench.driver import Driver, Ending, Tally, User

# uvloop's timers tick once a millisecond, which spoils short latencies at low rates; select's do not, and cost more.
_FROM_RATE_ON_UVLOOP: Final = 2000.0
_LETTERS: Final = dict(zip(Ending, "ARBTD", strict=True))


def endings_of(letters: str) -> list[Ending]:
    """Of each arrival, as the worker wrote them."""
    back = {letter: ending for ending, letter in _LETTERS.items()}
    return [back[letter] for letter in letters]


async def _users(job: dict[str, Any], stack: AsyncExitStack) -> Sequence[User]:
    if job["target"] == "inference":
        from sentinelctl.bench.grpc_user import open_users

        return await stack.enter_async_context(open_users(job["address"], job["requests"], job["users"]))
    from sentinelctl.bench.http_user import HttpUser
    from sentinelctl.bench.pushes import Request

    requests = [Request(*each) for each in job["requests"]]
    users = [HttpUser(job["host"], job["port"], requests, job["name"]) for _ in range(job["users"])]
    for user in users:
        stack.push_async_callback(user.close)
        await user.open()
    return users


async def drive(job: dict[str, Any]) -> dict[str, Any]:
    """Raises OSError where nobody listens."""
    stages = [Stage(**each) for each in job["stages"]]
    at_s = schedule(stages, warm_up_s=job["warm_up_s"], spacing=job["spacing"], seed=job["seed"])
    tally, letters = Tally(len(stages)), ["?"] * len(at_s)

    def ended(number: int, ending: Ending) -> None:
        letters[number] = _LETTERS[ending]

    async with AsyncExitStack() as stack:
        users = await _users(job, stack)
        driver = Driver(
            at_s.tolist(), stage_of(stages, at_s).tolist(), users, tally, timeout_s=job["timeout_s"], ended=ended
        )
        gc.collect()
        gc.disable()  # a collection in mid-run would be a slip of the schedule
        cpu_s, began, wall_ns = time.process_time(), time.perf_counter(), time.time_ns()
        await driver.run()
        elapsed_s = time.perf_counter() - began
        cpu = (time.process_time() - cpu_s) / elapsed_s
    return {
        "begins_at_ns": wall_ns + round((driver.begins_at - began) * 1e9),
        "arrivals_s": at_s.tolist() if job["is_told"] else [],
        "endings": "".join(letters) if job["is_told"] else "",
        "cpu": cpu,
        "latency": [histogram.encode() for histogram in tally.latency],
        "counts": tally.endings,
        "service": tally.service.encode(),
        "slip": tally.slip.encode(),
    }


def main() -> None:
    job = json.load(sys.stdin)
    most = max(max(stage["rate_from"], stage["rate_to"]) for stage in job["stages"])
    with asyncio.Runner(loop_factory=_loop_for(most)) as runner:
        try:
            seen = runner.run(drive(job))
        except OSError as exc:
            sys.exit(f"nobody takes the load: {exc}")
    json.dump(seen, sys.stdout)


def _loop_for(rate: float) -> Callable[[], asyncio.AbstractEventLoop]:
    if rate < _FROM_RATE_ON_UVLOOP:
        return lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    import uvloop

    return lambda: uvloop.new_event_loop()  # mypy: it is untyped


if __name__ == "__main__":
    main()
