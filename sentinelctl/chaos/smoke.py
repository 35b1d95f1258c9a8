"""Six checks of a stack that nothing is done to: what a first look at an installation asks for."""

import asyncio
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
import httpx2
from sentinel.v1.inference_pb2 import ChunkRequest
from sentinel.v1.inference_pb2_grpc import InferenceServiceStub

from sentinelctl.chaos import guard
from sentinelctl.chaos.history import make_history
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.stack import Stack, eventually, running
from sentinelctl.fakehub import hooks
from sentinelctl.runtime.base import Progress, unseen
from services.claims import open_claims
from services.contract import Topic

if TYPE_CHECKING:
    from services.settings import Settings

_WAIT_S: Final = 30.0
_PATCH: Final = "@@ -1 +1,2 @@\n import os\n+os.system(input())\n"


@dataclass(frozen=True, slots=True)
class Check:
    """fault: why it did not pass; empty where it did. seen: what the stack answered."""

    name: str
    seen: str
    fault: str
    seconds: float

    def document(self) -> dict[str, Any]:
        return {"check": self.name, "passed": not self.fault, "seen": self.seen, "fault": self.fault}


class Failed(Exception):
    """The message says what was seen."""


def check(base: "Settings", home: Path, tell: Callable[[Check], None], progress: Progress = unseen) -> list[Check]:
    """On a stack of its own; `tell` is given each check as it ends."""
    journal = Journal.begun(home / f"{time.strftime('%Y%m%d-%H%M%S')}-smoke-{time.time_ns() % 10**6}")
    watcher = guard.start(journal)
    done = []
    try:
        made = make_history(journal.folder / "served", 4)
        with running(base, made, journal, own={}, copies=1, latency_ms=20, progress=progress) as stack:
            first = _pushed(stack, 0)
            for name, look in (
                ("a bad signature is refused", _bad_signature),
                ("a push is taken and reviewed", lambda one: _queued(one, first)),
                ("the same delivery again is a duplicate", lambda one: _again(one, first)),
                ("the bus gives out what it took", lambda one: _bus(one, first)),
                ("inference answers over gRPC", _inference),
                ("the claims hold", _claims),
            ):
                done.append(_checked(name, look, stack))
                tell(done[-1])
    finally:
        journal.heal()
        watcher.wait()
        shutil.rmtree(journal.folder, ignore_errors=True)
    return done


def _checked(name: str, look: Callable[[Stack], str], stack: Stack) -> Check:
    began = time.monotonic()
    try:
        seen, fault = look(stack), ""
    except (Failed, OSError, LookupError, httpx2.HTTPError, grpc.RpcError) as exc:
        seen, fault = "", str(exc) or repr(exc)
    return Check(name, seen, fault, time.monotonic() - began)


def _pushed(stack: Stack, number: int, secret: str | None = None) -> hooks.Delivery:
    before, after = stack.made.shas[number : number + 2]
    payload = hooks.push(stack.hub.repositories[0], "refs/heads/main", before, after, stack.hub.base_url)
    return hooks.delivery("push", payload, secret or stack.settings.webhook.secret.get_secret_value())


def _answer(stack: Stack, delivery: hooks.Delivery) -> tuple[int, dict[str, Any]]:
    answer = httpx2.post(stack.url(), content=delivery.body, headers=delivery.headers(), trust_env=False, timeout=10)
    return answer.status_code, answer.json()


def _expect(is_so: bool, seen: str) -> str:
    if not is_so:
        raise Failed(seen)
    return seen


def _bad_signature(stack: Stack) -> str:
    status, said = _answer(stack, _pushed(stack, 1, "another"))
    return _expect(status == httpx2.codes.UNAUTHORIZED, f"{status} {said.get('status')}")


def _queued(stack: Stack, delivery: hooks.Delivery) -> str:
    status, said = _answer(stack, delivery)
    seen = f"{status} {said.get('status')}"
    _expect((status, said.get("status")) == (httpx2.codes.ACCEPTED, "accepted"), seen)
    began = time.monotonic()
    is_shown = eventually(lambda: len(stack.visible()) == 1, within_s=_WAIT_S)
    return _expect(is_shown, f"{seen}, its review visible after {time.monotonic() - began:.1f} s")


def _again(stack: Stack, delivery: hooks.Delivery) -> str:
    status, said = _answer(stack, delivery)
    eventually(lambda: not sum(stack.lag().values()), within_s=_WAIT_S)
    shown = len(stack.visible())
    return _expect(said.get("status") == "duplicate" and shown == 1, f"{status} {said.get('status')}, {shown} review")


def _bus(stack: Stack, delivery: hooks.Delivery) -> str:
    found = [one for one in stack.stages() if one["delivery_id"] == delivery.id]
    places = {one["topic"]: f"{one['topic']} {one['partition']}:{one['offset']}" for one in found}
    is_whole = places.keys() >= {Topic.PUSH_EVENTS, Topic.REVIEWS} and not sum(stack.lag().values())
    return _expect(
        is_whole, f"{stack.settings.stream.kind}: {', '.join(places.values())}, lag {sum(stack.lag().values())}"
    )


def _inference(stack: Stack) -> str:
    address = f"127.0.0.1:{stack.replica('inference').ports['grpc']}"
    asked = ChunkRequest(repo="local/served", commit="0" * 40, filename="app.py", patch=_PATCH, idempotency_key="smoke")
    with grpc.insecure_channel(address, options=(("grpc.enable_http_proxy", 0),)) as channel:
        answer = InferenceServiceStub(channel).ReviewChunk(asked, timeout=_WAIT_S)  # type: ignore[no-untyped-call]
    seen = f"{answer.model.name} {answer.model.version}, {answer.forward_s * 1000:.0f} ms in the forward pass"
    return _expect(answer.idempotency_key == "smoke" and bool(answer.model.digest), seen)


def _claims(stack: Stack) -> str:
    async def look() -> tuple[str, ...]:
        settings = stack.settings
        claims = open_claims(settings)
        try:
            first = await claims.claim("smoke", lease_s=10)
            second = await claims.claim("smoke", lease_s=10)
            await claims.confirm("smoke", first.token, result="smoke", keep_s=60)
            return (first.status, second.status, (await claims.claim("smoke", lease_s=10)).status)
        finally:
            await claims.close()

    found = asyncio.run(look())
    return _expect(found == ("granted", "held", "done"), f"{stack.settings.claims.kind}: {', then '.join(found)}")
