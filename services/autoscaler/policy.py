"""How many replicas of a service there should be, and why. Pure: no clock, no log, no process.

`decide(history, state, rule)` goes through the questions in this order, and the first that has an answer gives it: did
an operator take over, is anything unknown, is the last change still under way, how many does the lag ask for, and may
that change be made now. Every answer is a count inside the rule's bounds with its reason.

What the lag alone would get wrong: a tier that keeps up has none, so it would be shrunk at full load, and grown again.
Fewer replicas must therefore also be enough for what arrives, by the rate that one was seen to work off under load.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise, takewhile
from math import ceil, inf
from typing import Final

CRASH_LOOP: Final = 3
"""Ends in a row, each soon after its start."""
_MOST_NEW: Final = 4
"""Replicas started at once, or as many as there are, whichever is more."""
_HELPS: Final = 1.1
"""Times the rate before: less is no gain from more replicas."""
_LOAD: Final = 0.8
"""Of what was measured that fewer replicas may be loaded with."""


class Why(StrEnum):
    """The kind of a reason, for metrics and programs."""

    BY_HAND = "by-hand"
    UNKNOWN = "unknown"
    BOUNDS = "bounds"
    IN_FLIGHT = "in-flight"
    ON_TARGET = "on-target"
    CRASH_LOOP = "crash-loop"
    STALLED = "stalled"
    NO_HELP = "no-help"
    COOLDOWN = "cooldown"
    STABILISING = "stabilising"
    GROW = "grow"
    SHRINK = "shrink"


@dataclass(frozen=True, slots=True)
class Rule:
    """What is configured for one service. `least`: the warm replicas, always at least one."""

    least: int
    most: int
    target: float
    """Records of the group's lag that one replica may have waiting."""
    queue_target_s: float | None = None
    """For a service that is also called directly: mean wait in its queue."""
    tolerance: float = 0.1
    cooldown_s: float = 15.0
    stabilise_s: float = 120.0
    stall_s: float = 60.0

    @property
    def horizon_s(self) -> float:
        """History that is older decides nothing."""
        return 2 * max(self.stabilise_s, self.stall_s, self.cooldown_s)

    def bounded(self, replicas: int) -> int:
        least = max(1, self.least)
        return min(max(replicas, least), max(self.most, least))


@dataclass(frozen=True, slots=True)
class Span:
    """One partition as its group sees it: `done` is the oldest offset not worked off, `end` the next to be written."""

    done: int
    end: int

    @property
    def lag(self) -> int:
        return max(0, self.end - self.done)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `at_s`: a clock that never runs backwards."""

    at_s: float
    partitions: Mapping[int, Span] | None
    """None: the log did not answer."""
    running: int
    ready: int
    queue_wait_s: float | None = None
    """Mean since the look before; None: no replica said."""
    looping: str = ""
    """A replica that is crash-looping, with how it ended."""
    fault: str = ""
    """Why something is not known."""

    @property
    def lag(self) -> int:
        return sum(span.lag for span in (self.partitions or {}).values())

    @property
    def end(self) -> int:
        """Of all partitions together."""
        return sum(span.end for span in (self.partitions or {}).values())


@dataclass(frozen=True, slots=True)
class State:
    """What the policy has to remember of one service beside its history."""

    replicas: int
    """The count in force."""
    changed_at_s: float | None = None
    rate: float = 0.0
    """Records a second that one replica worked off when last seen under load; 0: never seen."""
    before: int = 0
    """The count before the last growth; 0 once what it was for is gone."""
    before_rate: float = 0.0
    """Records a second that those worked off under load; 0: not seen."""
    by_hand: str = ""
    """Who took over, in words; empty: the policy decides."""


@dataclass(frozen=True, slots=True)
class Decision:
    replicas: int
    why: Why
    reason: str
    state: State
    """To go on with."""


def decide(history: Sequence[Sample], state: State, rule: Rule) -> Decision:
    """`history`: oldest first, not empty; its last sample is now."""
    now = history[-1]
    if state.by_hand:
        return _keep(Why.BY_HAND, state.by_hand, replace(state, replicas=now.running))
    if (bounded := rule.bounded(state.replicas)) != state.replicas:
        allowed = f"the settings allow {rule.bounded(0)} to {max(rule.most, rule.bounded(0))}"
        return _change(bounded, Why.BOUNDS, allowed, state, now)
    if not now.partitions or (rule.queue_target_s is not None and now.queue_wait_s is None):
        return _keep(Why.UNKNOWN, f"nothing is changed while it is not known what waits: {now.fault}", state)
    if now.running != state.replicas:
        since = f" for {now.at_s - state.changed_at_s:.0f} s" if state.changed_at_s is not None else ""
        return _keep(Why.IN_FLIGHT, f"{state.replicas} asked for{since}, {now.running} running", state)
    stuck = _stuck(history, rule)
    needed = _needed(now, stuck, rule)
    state = _learnt(history, stuck, state, rule)
    said = _seen(now, stuck, rule)
    if needed > state.replicas and not _is_near(now, stuck, state, rule):
        return _grow(needed, said, history, state, rule)
    if needed < state.replicas:
        return _shrink(said, history, stuck, state, rule)
    if _needed(now, (), rule) > state.replicas and stuck:
        return _keep(Why.STALLED, f"{said}: no replica helps there", state)
    return _keep(Why.ON_TARGET, said, state)


def _grow(needed: int, said: str, history: Sequence[Sample], state: State, rule: Rule) -> Decision:
    now = history[-1]
    age_s = _since_change_s(now, state)
    if now.looping:
        return _keep(Why.CRASH_LOOP, f"{said}, but {now.looping}: another one would end the same way", state)
    if now.ready < now.running and age_s < rule.stall_s:
        return _keep(Why.IN_FLIGHT, f"{said}, but {now.ready} of {now.running} are ready yet", state)
    if age_s < rule.cooldown_s:
        return _keep(Why.COOLDOWN, f"{said}, but the last change is {age_s:.1f} of {rule.cooldown_s:g} s old", state)
    after = _rate_under_load(history, (), rule, state.replicas) * state.replicas
    if state.before and after and after < state.before_rate * _HELPS:
        told = f"{state.before} worked off {state.before_rate:.1f} a second and {state.replicas} do {after:.1f}"
        return _keep(Why.NO_HELP, f"{said}, but {told}: the limit is elsewhere", state)
    count = min(needed, max(2 * state.replicas, state.replicas + _MOST_NEW))
    learnt = replace(state, before=state.replicas, before_rate=after, rate=state.rate or _rate_while_waiting(history))
    return _change(count, Why.GROW, said, learnt, now)


def _shrink(said: str, history: Sequence[Sample], stuck: Collection[int], state: State, rule: Rule) -> Decision:
    now = history[-1]
    since_s = now.at_s - rule.stabilise_s
    if history[0].at_s > since_s:
        seen_s = now.at_s - history[0].at_s
        return _keep(Why.STABILISING, f"{said}; watched for {seen_s:.1f} of {rule.stabilise_s:g} s", state)
    recent = [one for one in history if one.at_s >= since_s and one.partitions]
    most, at_s = max((_needed(one, stuck, rule), one.at_s) for one in recent)
    if most >= state.replicas:
        return _keep(Why.STABILISING, f"{said}; {most} were needed {now.at_s - at_s:.1f} s ago", state)
    arriving = _arrivals(recent)
    count = max(most, rule.bounded(ceil(arriving / (state.rate * _LOAD)))) if state.rate else 1
    if count >= state.replicas:
        told = f"{arriving:.1f} arrive a second and one works off {state.rate:.1f}"
        return _keep(Why.ON_TARGET, f"{said}, but {told}", state)
    pause_s = rule.cooldown_s
    if rule.queue_target_s is not None or not state.rate:  # what fewer can take is not known: one, and look again
        count, pause_s = max(count, state.replicas - 1), max(rule.cooldown_s, rule.stabilise_s)
    if (age_s := _since_change_s(now, state)) < pause_s:
        return _keep(Why.COOLDOWN, f"{said}, but the last change is {age_s:.1f} of {pause_s:g} s old", state)
    return _change(count, Why.SHRINK, f"{said}, for {rule.stabilise_s:g} s", replace(state, before=0), now)


def _keep(why: Why, reason: str, state: State) -> Decision:
    return Decision(state.replicas, why, reason, state)


def _change(count: int, why: Why, reason: str, state: State, now: Sample) -> Decision:
    return Decision(count, why, reason, replace(state, replicas=count, changed_at_s=now.at_s))


def _since_change_s(now: Sample, state: State) -> float:
    return inf if state.changed_at_s is None else now.at_s - state.changed_at_s


def _lags(sample: Sample, stuck: Collection[int]) -> list[int]:
    """Of the partitions where something waits that a replica could work off."""
    return [span.lag for number, span in (sample.partitions or {}).items() if span.lag and number not in stuck]


def _needed(sample: Sample, stuck: Collection[int], rule: Rule) -> int:
    """By one sample alone, inside the bounds. More replicas than partitions with lag would have nothing to do."""
    lags = _lags(sample, stuck)
    by_lag = min(ceil(sum(lags) / rule.target), len(lags))
    by_queue = 0
    if rule.queue_target_s is not None:
        by_queue = ceil(sample.running * (sample.queue_wait_s or 0.0) / rule.queue_target_s)
    return rule.bounded(max(by_lag, by_queue))


def _is_near(now: Sample, stuck: Collection[int], state: State, rule: Rule) -> bool:
    """Above its target by no more than the tolerance."""
    loads = [sum(_lags(now, stuck)) / (rule.target * state.replicas)]
    if rule.queue_target_s is not None:
        loads.append((now.queue_wait_s or 0.0) / rule.queue_target_s)
    return max(loads) <= 1 + rule.tolerance


def _stuck(history: Sequence[Sample], rule: Rule) -> frozenset[int]:
    """Partitions where something waits and nothing was worked off for `stall_s`."""
    now = history[-1]
    since_s = now.at_s - rule.stall_s
    recent = [one for one in history if one.at_s >= since_s and one.partitions is not None]
    if history[0].at_s > since_s or len(recent) < 2 or not now.partitions:
        return frozenset()
    return frozenset(
        number
        for number, span in now.partitions.items()
        if all((then := (one.partitions or {}).get(number)) and then.lag and then.done == span.done for one in recent)
    )


def _learnt(history: Sequence[Sample], stuck: Collection[int], state: State, rule: Rule) -> State:
    rate = _rate_under_load(history, stuck, rule)
    if not rate and state.rate:  # what was seen since is no more than it can
        since_s = state.changed_at_s or 0.0
        rate = max(state.rate, _rate_of(pair for pair in pairwise(history) if pair[0].at_s >= since_s))
    is_over = _needed(history[-1], stuck, rule) < state.replicas
    return replace(state, rate=rate, before=0 if is_over else state.before)


def _rate_under_load(
    history: Sequence[Sample], stuck: Collection[int], rule: Rule, running: int | None = None
) -> float:
    """Records a second that one replica worked off while all were ready and had enough to do; 0 when that never was.

    `running`: only while there were so many.
    """

    def is_under_load(before: Sample, after: Sample) -> bool:
        is_whole = before.running == before.ready == after.running == after.ready
        occupied = min(_occupied(before, stuck, rule), _occupied(after, stuck, rule))
        return is_whole and running in (None, after.running) and occupied >= after.running

    return _rate_of(pair for pair in pairwise(history) if is_under_load(*pair))


def _rate_while_waiting(history: Sequence[Sample]) -> float:
    """The same since something waits without a break: of a tier that was too small, not far from what it can."""
    return _rate_of(takewhile(lambda pair: pair[1].lag, reversed(list(pairwise(history)))))


def _rate_of(pairs: Iterable[tuple[Sample, Sample]]) -> float:
    """Records a second and replica; one record less, which may have been nearly done before."""
    done, replica_s = 0, 0.0
    for before, after in pairs:
        done += _progress(before, after)
        replica_s += after.running * (after.at_s - before.at_s)
    return max(0, done - 1) / replica_s if replica_s else 0.0


def _progress(before: Sample, after: Sample) -> int:
    """Records worked off between the two."""
    was = before.partitions or {}
    return sum(
        max(0, span.done - was[number].done) for number, span in (after.partitions or {}).items() if number in was
    )


def _occupied(sample: Sample, stuck: Collection[int], rule: Rule) -> int:
    """Replicas that had their whole target waiting, each on a partition of its own."""
    lags = _lags(sample, stuck)
    return min(int(sum(lags) / rule.target), len(lags))


def _arrivals(samples: Sequence[Sample]) -> float:
    """Records appended a second, over all of `samples`."""
    first, last = samples[0], samples[-1]
    passed_s = last.at_s - first.at_s
    return (last.end - first.end) / passed_s if passed_s > 0 else 0.0


def _seen(now: Sample, stuck: Collection[int], rule: Rule) -> str:
    waiting = sum(1 for span in (now.partitions or {}).values() if span.lag)
    said = f"{now.lag} records wait on {waiting} partitions" if now.lag else "nothing waits"
    if rule.queue_target_s is not None:
        said += f", chunks for {1000 * (now.queue_wait_s or 0.0):.0f} ms"
    if stuck:
        numbers = ", ".join(map(str, sorted(stuck)))
        said += f", and none was worked off for {rule.stall_s:g} s on partitions {numbers}"
    return said
