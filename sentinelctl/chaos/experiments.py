"""The experiments, as data: what should hold, what is done about it, on which stack and under which load."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sentinelctl.chaos.faults import (
    AllPoison,
    Arrivals,
    ClaimsLost,
    Cut,
    Fault,
    Forge,
    Kill,
    KilledAtPost,
    Locked,
    NoRoom,
    Pause,
    Poison,
    RedisKilled,
    Skew,
    Storm,
)
from sentinelctl.chaos.load import MIXED, PUSHES, Kind
from sentinelctl.chaos.stack import Proxied
from sentinelctl.errors import UsageError
from services.contract import Role

WIDE_FILES: Final = 3000


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What holds before the fault, and what the account must show afterwards.

    Always: every delivery is acknowledged in the end and ends once, with a reason; lost 0, duplicate visible reviews 0,
    posts of an overtaken head 0, dead letters that nobody poisoned 0. drain_s: from the last delivery to the last
    ending. in_flight: fewer deliveries under way during the fault prove nothing.
    """

    drain_s: float = 90.0
    dead_letters: int = 0
    in_flight: int = 3


@dataclass(frozen=True, slots=True)
class Experiment:
    """own: settings of its stack, by section. proxied: what is reached through a relay. has_redis: keeps the
    claims in a Redis of the run's own."""

    name: str
    fault: Fault
    hypothesis: Hypothesis = Hypothesis()
    mix: Mapping[Kind, int] = field(default_factory=lambda: MIXED)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    proxied: Proxied = ""
    has_redis: bool = False

    @property
    def is_for_installed(self) -> bool:
        """It leaves data, settings and the number of replicas alone."""
        return isinstance(self.fault, Kill | Pause | Forge | KilledAtPost)

    @property
    def wide_files(self) -> int:
        return WIDE_FILES if "wide" in self.mix else 0


_AUTOSCALED: Final = {"autoscaler": {"enabled": True, "interval_s": 1.0}}
_SERVICES: Final = {role.value: _AUTOSCALED if role is Role.AUTOSCALER else {} for role in Role}
_LONG: Final = Hypothesis(drain_s=150.0)


def _forge(name: str, what: str, *faults: Mapping[str, Any], hypothesis: Hypothesis = _LONG) -> Experiment:
    return Experiment(name, Forge(what, faults), hypothesis)


EXPERIMENTS: Final = (
    *(Experiment(f"kill-{name}", Kill(name), own=own) for name, own in _SERVICES.items()),
    *(Experiment(f"pause-{name}", Pause(name), own=own) for name, own in _SERVICES.items()),
    Experiment("kill-at-post", KilledAtPost(), mix=PUSHES),
    Experiment("bus-restart", Locked("log", 2.0, is_restart=True)),
    Experiment("bus-unreachable", Locked("log", 20.0)),
    Experiment("claims-restart", Locked("claims store", 8.0, is_restart=True)),
    Experiment("claims-lost", ClaimsLost()),
    Experiment("redis-restart", RedisKilled(), has_redis=True),
    Experiment("redis-lost", RedisKilled("the claims' Redis is killed and comes back empty", True), has_redis=True),
    _forge(
        "forge-5xx",
        "the forge answers 502, then 503",
        {"kind": "status", "status": 502, "count": 20},
        {"kind": "status", "status": 503},
    ),
    _forge(
        "forge-429-retry-after",
        "the forge answers 429 and when to come again",
        {"kind": "limit", "status": 429, "says": "retry-after", "wait_s": 2},
    ),
    _forge(
        "forge-429-silent",
        "the forge answers 429 and not when to come again",
        {"kind": "limit", "status": 429, "says": "neither"},
    ),
    _forge("forge-stall", "the forge takes 30 s to answer", {"kind": "stall", "seconds": 30}),
    _forge(
        "forge-reset-after-write",
        "the forge writes, and resets the connection",
        {"kind": "reset", "method": "POST", "late": True},
    ),
    Experiment("poison-one", Poison(), Hypothesis(drain_s=90.0, dead_letters=1), mix=PUSHES),
    Experiment("poison-all", AllPoison(), _LONG, mix=PUSHES),
    Experiment(
        "pull-3000-files",
        Arrivals(f"a pull request of {WIDE_FILES:,} files among the rest", "wide"),
        Hypothesis(drain_s=300.0),
        mix={"push": 1, "wide": 0},
    ),
    Experiment(
        "duplicates",
        Arrivals("every other delivery comes again, or its head does", "again"),
        mix={"push": 2, "again": 1, "same": 1},
    ),
    Experiment(
        "out-of-order",
        Arrivals("heads move, and GitHub tells it backwards", "moved"),
        mix={"push": 2, "moving": 1, "reordered": 2},
    ),
    Experiment("rebalance-storm", Storm("extractor")),
    Experiment("disk-full", NoRoom()),
    *(
        Experiment(f"clock-{name}", Skew(name, offset))
        for name, offset in (("publisher", 120.0), ("extractor", -120.0))
    ),
    Experiment("cut-inference", Cut("inference", "extractor and inference are cut apart"), proxied="inference"),
    Experiment("cut-forge", Cut("forge", "the services and the forge are cut apart"), _LONG, proxied="forge"),
)


def chosen(names: list[str]) -> list[Experiment]:
    """In the order given. Raises UsageError for one that is not there."""
    known = {one.name: one for one in EXPERIMENTS}
    for name in names:
        if name not in known:
            raise UsageError(f"no experiment is named {name!r}", remedy="`sentinelctl chaos list` shows what there is")
    return [known[name] for name in dict.fromkeys(names)]
