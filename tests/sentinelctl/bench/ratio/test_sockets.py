"""The generator against a server of a few lines, whose answers are known."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from sentinelctl.bench.pushes import Request
from sentinelctl.bench.ratio.sockets import Tally, pour

REQUESTS = [Request(f"POST /{number} HTTP/1.1\r\nX-GitHub-Delivery: ", "\r\n\r\n") for number in range(3)]
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nbody"


@asynccontextmanager
async def server(answer: Callable[[int, bytes], list[bytes]]) -> AsyncIterator[int]:
    """Its port. `answer(number of the request, the request)`: the parts of the answer; none closes the connection."""
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while parts := answer(next(numbers), await reader.readuntil(b"\r\n\r\n")):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]


async def poured(answer: Callable[[int, bytes], list[bytes]], *, connections: int = 4) -> Tally:
    tally = Tally()
    async with server(answer) as port:
        await pour(port, REQUESTS, "run", connections=connections, seconds=0.2, tally=tally)
    return tally


async def test_every_request_sent_is_a_delivery_of_its_own() -> None:
    seen: list[bytes] = []

    def answer(_number: int, request: bytes) -> list[bytes]:
        seen.append(request.partition(b"X-GitHub-Delivery: ")[2].strip())
        return [ACCEPTED]

    tally = await poured(answer)
    assert len(seen) == len(set(seen)) > 4
    assert 0 < tally.answered == len(tally.acknowledged) == len(tally.seconds) <= len(seen)
    assert {each.encode() for each in tally.acknowledged} <= set(seen)
    assert (tally.refused, tally.broken) == (0, 0)


async def test_an_answer_in_pieces_is_one_answer() -> None:
    tally = await poured(lambda _number, _request: [ACCEPTED[:20], ACCEPTED[20:-2], ACCEPTED[-2:]])
    assert tally.answered > 0
    assert (tally.refused, tally.broken) == (0, 0)


@pytest.mark.parametrize(("status", "answered", "refused"), [(b"200 OK", 1, 0), (b"503 Unavailable", 0, 1)])
async def test_only_a_202_acknowledges(status: bytes, answered: int, refused: int) -> None:
    tally = await poured(lambda _number, _request: [b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\n\r\n"])
    assert tally.acknowledged == []
    assert (bool(tally.answered), bool(tally.refused)) == (bool(answered), bool(refused))


async def test_a_connection_that_breaks_is_counted_and_acknowledges_nothing() -> None:
    tally = await poured(lambda number, _request: [ACCEPTED] if number < 4 else [], connections=2)
    assert (tally.answered, tally.broken) == (4, 2)
