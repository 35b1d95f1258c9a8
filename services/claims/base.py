"""Claims: who may cause an effect, and whether it already happened. One contract suite runs on every implementation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

ENDED_LEASE_KEPT_S: Final = 5 * 86400.0
"""An ended lease is remembered as long as a confirmed review: until then the next claim must know of it."""


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
    """Every method raises ClaimsUnavailable when the store does not answer, within seconds and without trying again."""

    async def known_since(self) -> float:
        """Unix time at which the store began, or began anew after it lost what it had; it begins with this call."""

    async def claim(self, key: str, *, lease_s: float) -> Claim:
        """Granted to one caller at a time, until its lease ends; never again once confirmed and kept."""

    async def confirm(self, key: str, token: int, *, result: str, keep_s: float) -> bool:
        """Marks the effect done for `keep_s`, also where the store lost the claim meanwhile.

        False when a later token was granted: somebody took over.
        """

    async def release(self, key: str, token: int) -> None:
        """Gives an unused claim back: the next caller need not wait for the lease.

        That is no takeover, unless the claim given back was one: what its earlier holder did is still unknown.
        """

    async def get(self, key: str) -> bytes | None:
        """A remembered value, None when absent or expired."""

    async def put(self, key: str, value: bytes, *, keep_s: float) -> None:
        """Remembers a value for `keep_s`; the last put wins. A crash of the whole machine may forget it."""

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """As get(), in one go and in the order of `keys`."""

    async def put_many(self, values: Mapping[str, bytes], *, keep_s: float) -> None:
        """As put(), in one go."""

    async def close(self) -> None: ...
