"""Resident memory of a stack's services while something is measured."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, Final

from sentinelctl.runtime.process import cpu_and_memory
from sentinelctl.state import Replica

_MOST_SAMPLES: Final = 240
_LEAST_EVERY_S: Final = 0.5


class Memory:
    """at_s: of each sample; mb: of each service, all its replicas and their children together."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self._pids: dict[str, list[int]] = {}
        for one in replicas:
            if one.pid is not None:
                self._pids.setdefault(one.service, []).append(one.pid)
        self.at_s: list[float] = []
        self.mb: dict[str, list[float]] = {service: [] for service in self._pids}

    def sample(self, at_s: float) -> None:
        self.at_s.append(round(at_s, 1))
        for service, pids in self._pids.items():
            used = [seen[1] for seen in map(cpu_and_memory, pids) if seen is not None]
            self.mb[service].append(round(sum(used) / 1e6, 1))

    def document(self) -> dict[str, Any]:
        return {"at_s": self.at_s, "mb": self.mb, "growth_mb_per_h": growth(self.at_s, self.mb)}


def growth(at_s: Sequence[float], mb: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Of each service: from the median of the second quarter to that of the last, by the hour; the first warms up."""
    quarter = len(at_s) // 4
    if quarter == 0:
        return {}
    early, late = slice(quarter, 2 * quarter), slice(-quarter, None)
    hours = (median(at_s[late]) - median(at_s[early])) / 3600
    return {service: round((median(of[late]) - median(of[early])) / hours, 1) for service, of in mb.items()}


@contextmanager
def watched(replicas: Sequence[Replica], seconds: float) -> Iterator[Memory]:
    """Samples on a thread until the block ends; `seconds`: about how long that is."""
    memory, stop = Memory(replicas), threading.Event()
    every_s, began = max(_LEAST_EVERY_S, seconds / _MOST_SAMPLES), time.monotonic()

    def look() -> None:
        memory.sample(0.0)
        while not stop.wait(every_s):
            memory.sample(time.monotonic() - began)

    thread = threading.Thread(target=look, name="memory", daemon=True)
    thread.start()
    try:
        yield memory
    finally:
        stop.set()
        thread.join()
