"""What a load looks like: its profile, rate, length and chance. Pure."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from sentinelctl.bench.arrivals import Spacing, Stage, fixed, ramp, step

Profile = Literal["fixed", "ramp", "step", "find-max"]


@dataclass(frozen=True, slots=True)
class Shape:
    """rate: arrivals a second; where a ramp or steps end, and where a search begins. duration_s: of each try there."""

    profile: Profile = "fixed"
    rate: float = 50.0
    duration_s: float = 60.0
    warm_up_s: float = 2.0
    users: int = 50
    seed: int = 1
    spacing: Spacing = "even"
    timeout_s: float = 10.0

    @property
    def stages(self) -> tuple[Stage, ...]:
        made = {"fixed": fixed, "ramp": ramp, "step": step, "find-max": fixed}[self.profile]
        return made(self.rate, self.duration_s)

    def document(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def repeated(shape: Shape, number: int) -> Shape:
    """Of a repetition: arrivals drawn anew."""
    return replace(shape, seed=shape.seed + number)
