from collections.abc import Callable

import pytest

from sentinelctl.chaos.experiments import Hypothesis
from sentinelctl.chaos.verdict import Observed, Verdict, judged
from sentinelctl.ledger import Facts, Sent, Unit, Visible, Word, account

UNITS = [Unit(1, None, f"{number:040x}") for number in range(8)]
MOVED = Unit(1, 3, "b" * 40)


def ns(seconds: float) -> int:
    return int(seconds * 1e9)


def sent(number: int, unit: Unit, status: int = 202) -> Sent:
    return Sent(
        f"d{number}", unit, ns(100 + number), status, "accepted", "", ns(100.5 + number) if status == 202 else 0
    )


def good() -> Observed:
    """Eight pushes, one a second from 100 on, each reviewed after 2 s; a fault from 102 to 105; settled at 110."""
    observed = Observed(seen="it was seen", fault_from=102, fault_to=105, last_sent=107, settled=110)
    observed.sent = [sent(number, unit) for number, unit in enumerate(UNITS)]
    observed.account = account(observed.sent, [Visible(unit, ns(102 + number)) for number, unit in enumerate(UNITS)])
    return observed


def test_what_bit_and_left_nothing_wrong_passed() -> None:
    observed = good()
    assert judged(observed, Hypothesis()) == (Verdict.PASSED, [])
    assert (observed.in_flight, observed.drain_s, observed.recover_s) == (6, 3, 2)


def lost(observed: Observed) -> None:
    observed.account = account(observed.sent, [Visible(unit, ns(104)) for unit in UNITS[1:]])


def twice(observed: Observed) -> None:
    observed.account = account(observed.sent, [Visible(unit, ns(104)) for unit in [*UNITS, UNITS[0]]])


def stale(observed: Observed) -> None:
    observed.sent = [*observed.sent, sent(8, MOVED)]
    visible = [Visible(unit, ns(104)) for unit in UNITS] + [Visible(MOVED, ns(190))]
    observed.account = account(observed.sent, visible, facts=Facts({MOVED: ns(108)}))


def lettered(observed: Observed) -> None:
    visible = [Visible(unit, ns(104)) for unit in UNITS[1:]]
    observed.account = account(observed.sent, visible, {"d0": Word("dead-lettered", "attempts_exhausted", ns(104))})


def refused(observed: Observed) -> None:
    observed.sent = [*observed.sent, sent(9, MOVED, status=503)]
    observed.account = account(observed.sent, [Visible(unit, ns(104)) for unit in UNITS])


def unsettled(observed: Observed) -> None:
    observed.settled = 0


def slow(observed: Observed) -> None:
    observed.settled = 1000


def broke(observed: Observed) -> None:
    observed.broken.append("it did not halt")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lost, ["1 lost"]),
        (twice, ["1 duplicate visible reviews"]),
        (stale, ["1 posts of an overtaken head"]),
        (lettered, ["1 unexplained dead letters", "1 dead letters where 0 were expected"]),
        (refused, ["1 never acknowledged"]),
        (unsettled, ["it did not settle: records are left uncommitted or a service is not ready"]),
        (slow, ["drained after 893 s where 90 s are the most"]),
        (broke, ["it did not halt"]),
    ],
)
def test_a_broken_promise_deviates_and_is_named(spoil: Callable[[Observed], None], why: list[str]) -> None:
    observed = good()
    spoil(observed)
    assert judged(observed, Hypothesis()) == (Verdict.DEVIATED, why)
    observed.seen = ""
    assert judged(observed, Hypothesis())[0] is Verdict.DEVIATED, "whether the fault bit or not"


def test_a_steady_state_that_was_not_met_before_failed_whatever_else_there_is() -> None:
    observed = good()
    lost(observed)
    observed.steady = "not ready"
    assert judged(observed, Hypothesis()) == (Verdict.FAILED, ["not ready"])


def test_a_fault_that_was_not_seen_to_bite_is_inconclusive() -> None:
    observed = good()
    observed.seen = ""
    assert judged(observed, Hypothesis()) == (Verdict.INCONCLUSIVE, ["the fault was not seen to bite"])
    observed.cannot = "no prlimit"
    assert judged(observed, Hypothesis()) == (Verdict.INCONCLUSIVE, ["the fault cannot be made here: no prlimit"])


def test_too_little_under_way_is_inconclusive() -> None:
    assert judged(good(), Hypothesis(in_flight=7))[0] is Verdict.INCONCLUSIVE


def test_a_letter_that_the_experiment_made_is_expected() -> None:
    observed = good()
    visible = [Visible(unit, ns(104)) for unit in UNITS[1:]]
    words = {"d0": Word("dead-lettered", "attempts_exhausted", ns(104))}
    observed.account = account(observed.sent, visible, words, Facts(poisoned=frozenset({"d0"})))
    assert judged(observed, Hypothesis(dead_letters=1)) == (Verdict.PASSED, [])
