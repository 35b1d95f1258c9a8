import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.autoscaler.policy import Decision, Rule, Sample, Span, State, Why, decide

RULE = Rule(least=1, most=6, target=10, cooldown_s=10, stabilise_s=60, stall_s=30)


def look(at_s: float, lags: Sequence[int], running: int = 1, *, done: int | None = None, **more: object) -> Sample:
    """`done`: worked off of each partition so far; by default it moves with the time while something waits."""
    done = int(100 * at_s) * any(lags) if done is None else done
    partitions = {number: Span(done, done + lag) for number, lag in enumerate(lags)}
    return Sample(at_s, partitions, running, **{"ready": running, **more})  # type: ignore[arg-type]


def steady(lags: Sequence[int], running: int, *, for_s: float = 100, **more: object) -> list[Sample]:
    return [look(float(at_s), lags, running, **more) for at_s in range(0, int(for_s) + 1, 5)]


def said(history: Sequence[Sample], state: State, rule: Rule = RULE) -> tuple[Why, int]:
    decision = decide(history, state, rule)
    return decision.why, decision.replicas


IDLE, SOME, MANY = [0] * 12, [5] * 12, [100] * 12


@pytest.mark.parametrize(
    ("history", "state", "why", "replicas"),
    [
        pytest.param(steady(IDLE, 1), State(1), Why.ON_TARGET, 1, id="nothing to do"),
        pytest.param(steady(SOME, 1), State(1), Why.GROW, 5, id="four more at once at the most"),
        pytest.param(steady([30] + [0] * 11, 1), State(1), Why.ON_TARGET, 1, id="one hot repository buys no replica"),
        pytest.param(steady([15, 15] + [0] * 10, 1), State(1), Why.GROW, 2, id="as many as partitions with lag"),
        pytest.param(steady([5, 6] + [0] * 10, 1), State(1), Why.ON_TARGET, 1, id="within the tolerance"),
        pytest.param(steady(MANY, 6), State(6), Why.ON_TARGET, 6, id="at the most already"),
        pytest.param(steady(SOME, 1), State(1, 95), Why.COOLDOWN, 1, id="changed a moment ago"),
        pytest.param(steady(SOME, 1), State(2, 95), Why.IN_FLIGHT, 2, id="the last change is under way"),
        pytest.param(steady(SOME, 2, ready=1), State(2, 85), Why.IN_FLIGHT, 2, id="the last one is not ready"),
        pytest.param(steady(SOME, 2, ready=1), State(2, 5), Why.GROW, 6, id="one that never gets ready is no capacity"),
        pytest.param(steady(SOME, 2, looping="x-2 ends"), State(2), Why.CRASH_LOOP, 2, id="crash loop"),
        pytest.param(steady(SOME, 1, done=7), State(1), Why.STALLED, 1, id="nothing is committed any more"),
        pytest.param(steady(IDLE, 3), State(3, rate=9), Why.SHRINK, 1, id="idle for the whole window"),
        pytest.param(steady(IDLE, 3), State(3), Why.SHRINK, 2, id="one at a time where no load was ever seen"),
        pytest.param(steady(IDLE, 3, for_s=50), State(3), Why.STABILISING, 3, id="not watched for long enough"),
        pytest.param(
            [look(0.0, IDLE, 3), look(50.0, MANY, 3), *[look(float(at), IDLE, 3) for at in range(55, 106, 5)]],
            State(3), Why.STABILISING, 3, id="many were needed within the window",
        ),
        pytest.param(
            [look(float(at), IDLE, 3, done=at * 3) for at in range(0, 101, 5)],
            State(3, rate=12.5), Why.ON_TARGET, 3, id="no lag, because all three are busy",
        ),
        pytest.param([*steady(SOME, 1), Sample(101, None, 1, 1)], State(1), Why.UNKNOWN, 1, id="no answer"),
        pytest.param([*steady(IDLE, 3), Sample(101, {}, 3, 3)], State(3), Why.UNKNOWN, 3, id="no partition"),
        pytest.param(steady(IDLE, 9), State(9), Why.BOUNDS, 6, id="above what the settings allow"),
        pytest.param(steady(MANY, 3), State(1, by_hand="scaled"), Why.BY_HAND, 3, id="an operator's count"),
    ],
)  # fmt: skip
def test_decision(history: list[Sample], state: State, why: Why, replicas: int) -> None:
    assert said(history, state) == (why, replicas)


def test_the_fewest_are_what_the_settings_ask_for() -> None:
    rule = replace(RULE, least=2)
    assert said(steady(IDLE, 3), State(3, rate=9), rule) == (Why.SHRINK, 2)
    assert said(steady(IDLE, 2), State(2, rate=9), rule) == (Why.ON_TARGET, 2)


def test_a_stuck_partition_is_named_and_does_not_hold_replicas() -> None:
    history = [
        replace(one, partitions={**(one.partitions or {}), 3: Span(7, 500)}) for one in steady(IDLE, 2, for_s=100)
    ]
    decision = decide(history, State(2, rate=9), RULE)
    assert (decision.why, decision.replicas) == (Why.SHRINK, 1)
    assert "493 records wait on 1 partitions, and none was worked off for 30 s on partitions 3" in decision.reason


def test_growth_that_did_not_help_is_not_repeated_until_the_lag_is_gone() -> None:
    def busy(at_s: int, running: int) -> Sample:
        return look(float(at_s), MANY, running, done=10 * at_s)  # the same rate, whatever runs

    before = [busy(at, 1) for at in range(0, 21, 5)]
    grown = decide(before, State(1), replace(RULE, most=12))
    assert (grown.why, grown.replicas, grown.state.before_rate) == (Why.GROW, 5, (12 * 200 - 1) / 20)
    after = [*before, *[busy(at, 5) for at in range(25, 41, 5)]]
    decision = decide(after, grown.state, replace(RULE, most=12))
    assert (decision.why, decision.replicas) == (Why.NO_HELP, 5)
    assert re.search(r"1 worked off 1[12]\d\.\d a second and 5 do 1[12]\d\.\d: the limit is elsewhere", decision.reason)
    gone = decide([*after, look(45.0, IDLE, 5)], decision.state, replace(RULE, most=12))
    assert gone.state.before == 0


class TestQueue:
    RULE = replace(RULE, queue_target_s=0.25)

    def test_a_long_wait_grows_a_tier_without_lag(self) -> None:
        assert said(steady(IDLE, 2, queue_wait_s=0.5), State(2), self.RULE) == (Why.GROW, 4)
        assert said(steady(IDLE, 2, queue_wait_s=0.26), State(2), self.RULE) == (Why.ON_TARGET, 2)

    def test_it_shrinks_one_at_a_time_and_looks_for_a_whole_window_in_between(self) -> None:
        idle = steady(IDLE, 4, queue_wait_s=0.0)
        assert said(idle, State(4, rate=9), self.RULE) == (Why.SHRINK, 3)
        assert said(idle, State(4, 70, rate=9), self.RULE) == (Why.COOLDOWN, 4)

    def test_an_unknown_wait_changes_nothing(self) -> None:
        history = [*steady(MANY, 1, queue_wait_s=0.0), replace(look(101.0, MANY), fault="no replica answered")]
        decision = decide(history, State(1), self.RULE)
        assert (decision.why, decision.replicas) == (Why.UNKNOWN, 1)
        assert "no replica answered" in decision.reason


# Properties

rules = st.builds(
    Rule,
    least=st.integers(0, 4),
    most=st.integers(1, 12),
    target=st.floats(1, 100),
    queue_target_s=st.none() | st.floats(0.01, 1),
    tolerance=st.floats(0, 0.5),
    cooldown_s=st.floats(0, 30),
    stabilise_s=st.floats(1, 60),
    stall_s=st.floats(1, 60),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Sample]:
    """Offsets that only go forwards, over some looks; the log and the replicas may not answer."""
    partitions = draw(st.integers(1, 8))
    ends, done, at_s = [0] * partitions, [0] * partitions, 0.0
    history = []
    for _ in range(draw(st.integers(1, 12))):
        at_s += draw(st.floats(0.1, 30))
        for number in range(partitions):
            ends[number] += draw(st.integers(0, 100))
            done[number] = draw(st.integers(done[number], ends[number]))
        running = draw(st.integers(1, 10))
        history.append(
            Sample(
                at_s,
                {number: Span(done[number], ends[number]) for number in range(partitions)}
                if draw(st.booleans())
                else None,
                running,
                draw(st.integers(0, running)),
                draw(st.none() | st.floats(0, 2)),
                draw(st.sampled_from(["", "", "x-1 ends"])),
            )
        )
    return history


states = st.builds(
    State,
    replicas=st.integers(1, 12),
    changed_at_s=st.none() | st.floats(0, 300),
    rate=st.just(0.0) | st.floats(0.01, 100),
    before=st.integers(0, 5),
    before_rate=st.floats(0, 100),
)


@settings(deadline=None)
@given(histories(), states, rules)
def test_it_never_leaves_the_bounds_and_keeps_one_warm(history: list[Sample], state: State, rule: Rule) -> None:
    decision = decide(history, state, rule)
    assert max(1, rule.least) <= decision.replicas <= max(rule.most, rule.least, 1)
    assert decision.replicas == decision.state.replicas
    assert decision.reason


@settings(deadline=None)
@given(histories(), states, rules)
def test_to_decide_twice_is_to_decide_once(history: list[Sample], state: State, rule: Rule) -> None:
    once = decide(history, state, rule)
    assert decide(history, once.state, rule).replicas == once.replicas


@settings(deadline=None)
@given(histories(), states, rules, st.data())
def test_more_lag_never_gives_fewer_replicas(
    history: list[Sample], state: State, rule: Rule, data: st.DataObject
) -> None:
    now = history[-1]
    state = replace(state, replicas=rule.bounded(now.running))
    if now.partitions is None:
        return
    more = {number: data.draw(st.integers(0, 200)) for number in now.partitions}
    longer = {number: replace(span, end=span.end + more[number]) for number, span in now.partitions.items()}
    raised = [*history[:-1], replace(now, partitions=longer)]
    assert decide(raised, state, rule).replicas >= decide(history, state, rule).replicas


@settings(deadline=None)
@given(histories(), states, rules)
def test_what_is_not_known_changes_nothing(history: list[Sample], state: State, rule: Rule) -> None:
    state = replace(state, replicas=rule.bounded(state.replicas))
    blind = [*history, replace(history[-1], at_s=history[-1].at_s + 5, partitions=None)]
    assert said(blind, state, rule) == (Why.UNKNOWN, state.replicas)


@settings(deadline=None)
@given(histories(), states, rules)
def test_a_crash_loop_never_grows(history: list[Sample], state: State, rule: Rule) -> None:
    state = replace(state, replicas=rule.bounded(state.replicas))
    looping = [*history[:-1], replace(history[-1], looping="x-2 ends with exit 1")]
    assert decide(looping, state, rule).replicas <= state.replicas


@settings(deadline=None)
@given(histories(), states, rules)
def test_it_never_shrinks_below_what_the_window_needed(history: list[Sample], state: State, rule: Rule) -> None:
    rule = replace(rule, queue_target_s=None, stall_s=1e9)
    state = replace(state, replicas=rule.bounded(history[-1].running))
    decision = decide(history, state, rule)
    if decision.why is not Why.SHRINK:
        return
    since_s = history[-1].at_s - rule.stabilise_s
    assert history[0].at_s <= since_s, "it has not watched for that long"
    for sample in history:
        if sample.at_s >= since_s and sample.partitions:
            lags = [span.lag for span in sample.partitions.values() if span.lag]
            assert decision.replicas >= rule.bounded(min(ceil(sum(lags) / rule.target), len(lags)))


# A tier under load, simulated


@dataclass
class Tier:
    """Partitions shared out among the replicas that are ready; each replica works off `rate` records a second."""

    rate: float
    start_s: float
    chance: random.Random
    partitions: int = 12
    ready: int = 1
    starting: tuple[float, ...] = ()
    at_s: float = 0.0

    def __post_init__(self) -> None:
        self.ends, self.done, self.credit = [0] * self.partitions, [0.0] * self.partitions, 0.0

    def scale(self, count: int) -> None:
        running = self.ready + len(self.starting)
        if count > running:
            self.starting += (self.at_s + self.start_s,) * (count - running)
        elif count < running:
            self.starting = ()
            self.ready = min(self.ready, count)

    def step(self, seconds: float, arriving: float) -> None:
        self.at_s += seconds
        self.credit += arriving * seconds * self.chance.uniform(0.7, 1.3)
        for number in self.chance.choices(range(self.partitions), k=int(self.credit)):
            self.ends[number] += 1
        self.credit %= 1
        self.ready += sum(at_s <= self.at_s for at_s in self.starting)
        self.starting = tuple(at_s for at_s in self.starting if at_s > self.at_s)
        for replica in range(self.ready):
            room = self.rate * seconds
            mine = list(range(replica, self.partitions, self.ready))
            for number in self.chance.sample(mine, len(mine)):  # none is always the last
                took = min(room, self.ends[number] - self.done[number])
                self.done[number] += took
                room -= took

    def look(self) -> Sample:
        spans = {number: Span(int(self.done[number]), self.ends[number]) for number in range(self.partitions)}
        return Sample(self.at_s, spans, self.ready + len(self.starting), self.ready)


def run(tier: Tier, rule: Rule, load: Callable[[float], float], for_s: float, every_s: float) -> list[Decision]:
    """The loop, without the world."""
    history: list[Sample] = []
    state = State(1)
    decisions = []
    while tier.at_s < for_s:
        for _ in range(4):
            tier.step(every_s / 4, load(tier.at_s))
        history = [one for one in history if one.at_s >= tier.at_s - rule.horizon_s] + [tier.look()]
        decisions.append(decide(history, state, rule))
        state = decisions[-1].state
        tier.scale(decisions[-1].replicas)
    return decisions


def turns(counts: Sequence[int]) -> int:
    """How often it changed its direction: up and then down is one."""
    levels = [count for count, _ in groupby(counts)]
    return sum(
        (after > now) != (now > before) for before, now, after in zip(levels, levels[1:], levels[2:], strict=False)
    )


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    rate=st.floats(1, 10),
    share=st.floats(0.1, 0.5),
    phase_s=st.floats(60, 900),
    start_s=st.floats(0, 8),
    target_s=st.floats(6, 30),
    most=st.integers(5, 12),
)
def test_load_times_five_and_back_turns_at_most_twice_and_ends_where_it_began(
    seed: int, rate: float, share: float, phase_s: float, start_s: float, target_s: float, most: int
) -> None:
    """One replica takes 1x with room to spare; 5x lasts for less or more than the window. The target is what one works
    off in more than the 5 s between two looks: a smaller one is crossed by chance."""
    target = max(5, target_s * rate)
    rule = Rule(least=1, most=most, target=target, cooldown_s=10, stabilise_s=120, stall_s=60)
    base = share * rate
    tier = Tier(rate, start_s, random.Random(seed))
    decisions = run(
        tier, rule, lambda at_s: base * (5 if 200 <= at_s < 200 + phase_s else 1), 200 + phase_s + 1200, every_s=5
    )
    counts = [one.replicas for one in decisions]
    assert turns([1, *counts]) <= 2, counts
    assert counts[-1] == 1, decisions[-1].reason
    assert tier.look().lag <= 1.1 * target + rate


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), rate=st.floats(1, 10), share=st.floats(1.2, 3.5), target_s=st.floats(6, 30))
def test_a_steady_load_is_not_shrunk_and_grown_again_and_again(
    seed: int, rate: float, share: float, target_s: float
) -> None:
    target = max(5, target_s * rate)
    rule = Rule(least=1, most=8, target=target, cooldown_s=10, stabilise_s=60, stall_s=60)
    tier = Tier(rate, 2, random.Random(seed))
    counts = [one.replicas for one in run(tier, rule, lambda _: share * rate, 1800, every_s=5)]
    assert turns([1, *counts]) <= 2, counts
    assert tier.look().lag <= 1.1 * target * counts[-1] + rate
