"""Claims: who may cause an effect, and whether it already happened. One contract suite runs on every implementation."""

from dataclasses import dataclass
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Claim:
    """What claim() answered.

    status: `granted`, `held` (somebody else's lease runs for `retry_after_s` more seconds), or `done` (`result` is what
    confirm() was given). token: fencing token, larger for each grant of a key. is_takeover: an earlier holder's lease
    ended unconfirmed, so its effect may exist: look before acting. known_since: Unix time at which the store began;
    what happened before it is unknown, so look before acting on anything older.
    """

    status: Literal["granted", "held", "done"]
    token: int = 0
    is_takeover: bool = False
    retry_after_s: float = 0.0
    result: str = ""
    known_since: float = 0.0


class Claims(Protocol):
    """Every method raises ClaimsUnavailable when the store does not answer."""

    async def claim(self, key: str, *, lease_s: float) -> Claim:
        """Granted to one caller at a time, until its lease ends; never again once confirmed and kept."""

    async def confirm(self, key: str, token: int, *, result: str, keep_s: float) -> bool:
        """Marks the effect done for `keep_s`. False when a later token was granted meanwhile: somebody took over."""

    async def release(self, key: str, token: int) -> None:
        """Gives an unused claim back: the next caller need not wait for the lease.

        That is no takeover, unless the claim given back was one: what its earlier holder did is still unknown.
        """

    async def get(self, key: str) -> bytes | None:
        """A remembered value, None when absent or expired."""

    async def put(self, key: str, value: bytes, *, keep_s: float) -> None:
        """Remembers a value for `keep_s`; the last put wins."""

    async def close(self) -> None: ...
