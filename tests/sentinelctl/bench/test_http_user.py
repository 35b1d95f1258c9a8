"""A user against a server of a few lines, whose answers are known."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest

from sentinelctl.bench import http_user
from sentinelctl.bench.driver import Ending
from sentinelctl.bench.http_user import HttpUser
from sentinelctl.bench.pushes import Request

REQUESTS = [Request(f"POST /{number} HTTP/1.1\r\nX-GitHub-Delivery: ", "\r\n\r\n") for number in range(3)]
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\nbody"

Answer = Callable[[int, bytes], list[bytes] | None]
"""(number of the request, the request) → the parts of the answer; none closes the connection, None never answers."""


@asynccontextmanager
async def user(answer: Answer) -> AsyncIterator[HttpUser]:
    numbers = count()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while parts := answer(next(numbers), await reader.readuntil(b"\r\n\r\n")):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0)
            if parts is None:
                await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        made = HttpUser("127.0.0.1", listening.sockets[0].getsockname()[1], REQUESTS, "run")
        await made.open()
        try:
            yield made
        finally:
            await made.close()


async def sent(of: HttpUser, number: int) -> Ending:
    ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
    of.send(number, ending.set_result)
    async with asyncio.timeout(5):
        return await ending


async def test_each_request_is_a_delivery_of_its_own() -> None:
    seen: list[bytes] = []

    def answer(_number: int, request: bytes) -> list[bytes]:
        seen.append(request)
        return [ACCEPTED[:20], ACCEPTED[20:-2], ACCEPTED[-2:]]

    async with user(answer) as one:
        assert [await sent(one, number) for number in (0, 1, 3)] == [Ending.ANSWERED] * 3
    assert [request.split(b" ")[1] for request in seen] == [b"/0", b"/1", b"/0"]
    assert [request.split()[-1] for request in seen] == [b"run-0", b"run-1", b"run-3"]


@pytest.mark.parametrize(("status", "ending"), [("200 OK", Ending.ANSWERED), ("503 Unavailable", Ending.REFUSED)])
async def test_only_a_success_is_an_answer(status: str, ending: Ending) -> None:
    async with user(lambda _number, _request: [f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode()]) as one:
        assert await sent(one, 0) is ending


async def test_a_broken_connection_is_told_and_the_next_request_has_a_new_one() -> None:
    async with user(lambda number, _request: [] if number == 0 else [ACCEPTED]) as one:
        assert await sent(one, 0) is Ending.BROKEN
        assert await sent(one, 1) is Ending.ANSWERED


async def test_what_was_abandoned_never_answers_for_the_next() -> None:
    async with user(lambda number, _request: None if number == 0 else [ACCEPTED]) as one:
        one.send(0, lambda ending: pytest.fail(f"an abandoned request ended as {ending}"))
        await asyncio.sleep(0.01)
        one.abandon()
        assert await sent(one, 1) is Ending.ANSWERED


async def test_a_connection_that_idled_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a request never meets the moment at which the server closes it."""
    monkeypatch.setattr(http_user, "_STALE_S", -1.0)
    async with user(lambda _number, _request: [ACCEPTED]) as one:
        assert [await sent(one, number) for number in range(3)] == [Ending.ANSWERED] * 3


async def test_without_a_listener_there_is_no_user() -> None:
    async with user(lambda _number, _request: [ACCEPTED]) as one:
        port = one._port
    with pytest.raises(OSError, match="Connect"):
        await HttpUser("127.0.0.1", port, REQUESTS, "run").open()
