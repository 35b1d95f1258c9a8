"""The load generator for machines without wrk: raw keep-alive connections, each with one request at a time.

`python -m sentinelctl.bench.ratio.sockets` is the process that the command starts: a job as JSON on stdin, a Load on
stdout.
"""

import asyncio
import json
import re
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sentinelctl.bench.pushes import Request
from sentinelctl.bench.ratio.load import Load
from sentinelctl.ledger import percentile

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Tally:
    """acknowledged: the delivery ids that were answered 202."""

    acknowledged: list[str] = field(default_factory=list)
    answered: int = 0
    refused: int = 0
    broken: int = 0
    opened: int = 0
    seconds: "array[float]" = field(default_factory=lambda: array("d"))


class _Connection(asyncio.Protocol):
    """The next request goes out when the answer to the last one is complete."""

    def __init__(self, requests: Sequence[Request], name: str, tally: Tally) -> None:
        self._requests, self._name, self._tally = requests, name, tally
        self._transport: Any = None
        self._answer = b""
        self._delivery_id = ""
        self._sent = 0
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._tally.opened += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            return
        tally, status = self._tally, head[9:12]
        tally.seconds.append(time.perf_counter() - self._sent_at)
        if status == b"202":
            tally.acknowledged.append(self._delivery_id)
        if status.startswith(b"2"):
            tally.answered += 1
        else:
            tally.refused += 1
        self._answer = b""
        self._send()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._tally.broken += 1

    def stop(self) -> None:
        """What is under way is not counted."""
        self._tally = Tally()
        self._transport.close()

    def _send(self) -> None:
        self._delivery_id = f"{self._name}-{self._sent}"
        request = self._requests[self._sent % len(self._requests)]
        self._sent += 1
        self._sent_at = time.perf_counter()
        self._transport.write(request.raw(self._delivery_id))


async def pour(
    port: int, requests: Sequence[Request], name: str, *, connections: int, seconds: float, tally: Tally
) -> None:
    """Fills `tally` for that long. `name` begins every delivery id. Raises OSError where nobody listens."""
    loop = asyncio.get_running_loop()
    opened: list[_Connection] = []
    try:
        for number in range(connections):
            shifted = [*requests[number % len(requests) :], *requests[: number % len(requests)]]
            connection = _Connection(shifted, f"{name}-{number}", tally)
            await loop.create_connection(lambda made=connection: made, "127.0.0.1", port)  # type: ignore[misc]
            opened.append(connection)
        await asyncio.sleep(seconds)
    finally:
        for connection in opened:
            connection.stop()


def main() -> None:
    import uvloop

    job = json.load(sys.stdin)
    tally, cpu_s, began = Tally(), time.process_time(), time.perf_counter()
    requests = [Request(*each) for each in job["requests"]]
    uvloop.run(
        pour(
            job["port"],
            requests,
            job["name"],
            connections=job["connections"],
            seconds=job["seconds"],
            tally=tally,
        )
    )
    elapsed_s = time.perf_counter() - began
    load = Load(
        seconds=elapsed_s,
        answered=tally.answered,
        refused=tally.refused,
        broken=tally.broken,
        p50_ms=percentile(tally.seconds, 50) * 1000,
        p99_ms=percentile(tally.seconds, 99) * 1000,
        generator_cpu=(time.process_time() - cpu_s) / elapsed_s,
    )
    json.dump(asdict(load), sys.stdout)


if __name__ == "__main__":
    main()
