"""A fakehub whose every request and answer is held against GitHub's description."""

from collections.abc import Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .description import Description, Operation


class Judged:
    """`faults` are the differences found, `seen` the operations and the statuses they were answered with."""

    def __init__(self, app: ASGIApp, description: Description) -> None:
        self._app, self._description = app, description
        self.faults: list[str] = []
        self.seen: set[tuple[Operation, int]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sent: list[bytes] = []
        content: list[bytes] = []
        status = 0

        async def read() -> Message:
            message = await receive()
            sent.append(message.get("body", b""))
            return message

        async def write(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            content.append(message.get("body", b""))
            await send(message)

        await self._app(scope, read, write)
        method, path = scope["method"], scope["path"]
        operation = self._description.operation(method, path)
        if operation is None:
            self._note(method, path, status, ["GitHub has no such operation"] if status != 404 else [])
            return
        self.seen.add((operation, status))
        query = scope["query_string"].decode()
        asked = list(self._description.request_faults(operation, query, b"".join(sent))) if status < 400 else []
        self._note(method, path, status, asked)
        self._note(method, path, status, list(self._description.answer_faults(operation, status, b"".join(content))))

    def _note(self, method: str, path: str, status: int, faults: Sequence[str]) -> None:
        self.faults.extend(f"{method} {path} {status}: {fault}" for fault in faults)
