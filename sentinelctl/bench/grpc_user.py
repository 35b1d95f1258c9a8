"""A user of the inference server: one ReviewChunks call at a time, over a channel that some share."""

import asyncio
import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from sentinel.v1.inference_pb2 import ReviewChunksRequest
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from sentinelctl.bench.driver import Done, Ending

_OPTIONS: Final = (("grpc.enable_http_proxy", 0), ("grpc.max_receive_message_length", -1))


class GrpcUser:
    def __init__(self, stub: Any, requests: Sequence[ReviewChunksRequest]) -> None:
        self._stub, self._requests = stub, requests
        self._call: asyncio.Task[None] | None = None

    def send(self, number: int, done: Done) -> None:
        self._call = asyncio.create_task(self._ask(self._requests[number % len(self._requests)], done))

    def abandon(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def _ask(self, request: ReviewChunksRequest, done: Done) -> None:
        try:
            await self._stub.ReviewChunks(request)
        except grpc.aio.AioRpcError as exc:
            done(Ending.BROKEN if exc.code() is grpc.StatusCode.UNAVAILABLE else Ending.REFUSED)
        else:
            done(Ending.ANSWERED)


@asynccontextmanager
async def open_users(address: str, requests: Sequence[str], count: int) -> AsyncIterator[list[GrpcUser]]:
    """requests: each a ReviewChunksRequest in base64."""
    made = [ReviewChunksRequest.FromString(base64.b64decode(each)) for each in requests]
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stub = InferenceServiceStub(channel)  # type: ignore[no-untyped-call]
        yield [GrpcUser(stub, made) for _ in range(count)]
