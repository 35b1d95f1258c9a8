"""What a run shows, and what that proves. Pure: observations in, verdict out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sentinelctl.chaos.experiments import Hypothesis
from sentinelctl.ledger import ENDINGS, Account, Sent


class Verdict(StrEnum):
    PASSED = "passed"
    DEVIATED = "deviated"
    """The hypothesis did not hold."""
    FAILED = "failed"
    """The steady state was not met before the fault, which was not made then."""
    INCONCLUSIVE = "inconclusive"
    """The fault did not bite, or too little was under way."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Of the timeline; `at` in Unix seconds. lag: records not committed, None where the log could not be read."""

    at: float
    sent: int
    acknowledged: int
    visible: int
    lag: int | None


@dataclass
class Observed:
    """Everything that one run of an experiment noted. Times in Unix seconds, 0 where they did not come."""

    steady: str = ""
    """Why the steady state was not met before; empty where it was."""
    seen: str = ""
    """Of the fault, at its target."""
    broken: list[str] = field(default_factory=list)
    """Promises that were broken in plain sight, during the fault or after it."""
    cannot: str = ""
    """Why the fault could not be made here."""
    began: float = 0.0
    fault_from: float = 0.0
    fault_to: float = 0.0
    last_sent: float = 0.0
    settled: float = 0.0
    sent: Sequence[Sent] = ()
    account: Account = field(default_factory=lambda: Account({}, 0, ()))
    samples: list[Sample] = field(default_factory=list)
    stages: list[dict[str, Any]] = field(default_factory=list)

    @property
    def drain_s(self) -> float:
        """From the last delivery, or the fault's end, until everything had ended and every record was committed."""
        return max(0.0, self.settled - max(self.last_sent, self.fault_to)) if self.settled else 0.0

    @property
    def recover_s(self) -> float:
        """From the fault's end until everything that had been sent by then had ended."""
        ends = [
            self.account.ended_at_ns.get(one.delivery_id, 0) / 1e9
            for one in self.sent
            if one.sent_at_ns / 1e9 <= self.fault_to
        ]
        return max(0.0, max(ends, default=0.0) - self.fault_to)

    @property
    def in_flight(self) -> int:
        """Deliveries that were under way at some moment of the fault."""
        ended = self.account.ended_at_ns
        return sum(
            one.sent_at_ns / 1e9 <= self.fault_to
            and (one.delivery_id not in ended or ended[one.delivery_id] / 1e9 >= self.fault_from)
            for one in self.sent
        )


def violations(observed: Observed, hypothesis: Hypothesis) -> list[str]:
    """What the hypothesis says and the run does not show."""
    account, found = observed.account, list(observed.broken)
    for what, count in (("lost", account.count("lost")), ("never acknowledged", account.count("refused"))):
        if count:
            found.append(f"{count} {what}")
    if account.duplicates:
        found.append(f"{account.duplicates} duplicate visible reviews")
    if account.stale:
        found.append(f"{len(account.stale)} posts of an overtaken head")
    if account.unexplained:
        found.append(f"{len(account.unexplained)} unexplained dead letters")
    if (letters := account.count("dead-lettered")) > hypothesis.dead_letters:
        found.append(f"{letters} dead letters where {hypothesis.dead_letters} were expected")
    unreasoned = [name for name, ending in account.endings.items() if ending in ENDINGS and not account.reasons[name]]
    if unreasoned:
        found.append(f"{len(unreasoned)} endings without a reason")
    if not observed.settled:
        found.append("it did not settle: records are left uncommitted or a service is not ready")
    elif observed.drain_s > hypothesis.drain_s:
        found.append(f"drained after {observed.drain_s:.0f} s where {hypothesis.drain_s:.0f} s are the most")
    return found


def judged(observed: Observed, hypothesis: Hypothesis) -> tuple[Verdict, list[str]]:
    """The verdict and its reasons; none where it passed."""
    if observed.steady:
        return Verdict.FAILED, [observed.steady]
    if broken := violations(observed, hypothesis):
        return Verdict.DEVIATED, broken
    if observed.cannot:
        return Verdict.INCONCLUSIVE, [f"the fault cannot be made here: {observed.cannot}"]
    if not observed.seen:
        return Verdict.INCONCLUSIVE, ["the fault was not seen to bite"]
    if observed.in_flight < hypothesis.in_flight:
        few = f"{observed.in_flight} deliveries were under way during the fault; {hypothesis.in_flight} are needed"
        return Verdict.INCONCLUSIVE, [few]
    return Verdict.PASSED, []
