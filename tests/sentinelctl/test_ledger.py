from dataclasses import replace

import pytest

from sentinelctl.ledger import Facts, Sent, Unit, Visible, Word, account, percentile

A, B = Unit(1, None, "a" * 40), Unit(1, 7, "b" * 40)


def sent(delivery_id: str, unit: Unit, at_ms: int = 0, status: int = 202, answer: str = "accepted") -> Sent:
    return Sent(delivery_id, unit, at_ms * 1_000_000, status, answer)


def shown(unit: Unit, at_ms: int) -> Visible:
    return Visible(unit, at_ms * 1_000_000)


def test_a_delivery_with_its_review_is_reviewed_and_timed() -> None:
    result = account([sent("1", A, 10), sent("2", B, 20)], [shown(A, 110), shown(B, 320)])
    assert result.endings == {"1": "reviewed", "2": "reviewed"}
    assert result.e2e_ms == (100.0, 300.0)
    assert result.duplicates == 0


def test_an_acknowledged_delivery_without_a_review_is_lost() -> None:
    assert account([sent("1", A), sent("2", B)], [shown(A, 5)]).count("lost") == 1


def test_a_refused_delivery_is_not_lost() -> None:
    assert account([sent("1", A, status=503, answer="")], []).endings == {"1": "refused"}


def test_a_second_review_of_one_unit_is_a_duplicate() -> None:
    assert account([sent("1", A)], [shown(A, 5), shown(A, 9), shown(A, 12)]).duplicates == 2


def test_a_review_at_another_commit_does_not_count() -> None:
    elsewhere = Unit(1, 7, "c" * 40)
    assert account([sent("1", B)], [shown(elsewhere, 5)]).endings == {"1": "lost"}


def test_a_redelivery_ends_as_duplicate_and_the_first_one_is_reviewed() -> None:
    result = account([sent("2", A, 50), sent("1", A, 10)], [shown(A, 60)])
    assert result.endings == {"1": "reviewed", "2": "duplicate"}
    assert result.e2e_ms == (50.0,)


def test_an_ignored_delivery_needs_no_review() -> None:
    assert account([sent("1", A, answer="ignored")], []).endings == {"1": "ignored"}


def test_percentiles_take_the_nearest_rank() -> None:
    values = [float(one) for one in range(1, 101)]
    assert [percentile(values, q) for q in (50, 95, 99, 100)] == [50.0, 95.0, 99.0, 100.0]
    assert percentile([7.0], 99) == 7.0
    assert percentile([], 50) == 0.0


def said(outcome: str, at_ms: int = 90) -> Word:
    return Word(outcome, f"why it is {outcome}", at_ms * 1_000_000)


def test_every_acknowledged_delivery_ends_once_and_with_a_reason() -> None:
    overtaken, pushed, poisoned = Unit(1, 8, "d" * 40), Unit(1, None, "e" * 40), Unit(1, None, "f" * 40)
    deliveries = [
        sent("reviewed", A, 1), sent("superseded", overtaken, 2), sent("covered", pushed, 3),
        sent("poisoned", poisoned, 4), sent("again", A, 5), sent("tag", B, 6, answer="ignored"),
    ]  # fmt: skip
    words = {"superseded": said("superseded"), "covered": said("covered"), "poisoned": said("dead-lettered")}
    facts = Facts({overtaken: 2_000_000}, frozenset({"covered"}), frozenset({"poisoned"}))
    found = account([replace(one, reason="tag") for one in deliveries], [shown(A, 60)], words, facts)
    assert list(found.endings.values()) == [
        "reviewed", "superseded", "covered", "dead-lettered", "duplicate", "ignored",
    ]  # fmt: skip
    assert all(found.reasons.values())
    assert found.reasons["again"] == "of the same head as reviewed"
    assert found.ended_at_ns["superseded"] == 90_000_000
    assert (found.stale, found.unexplained) == ((), ())


@pytest.mark.parametrize("outcome", ["superseded", "covered", "reviewed"])
def test_a_services_word_that_nothing_bears_out_is_no_ending(outcome: str) -> None:
    found = account([sent("1", A)], [], {"1": said(outcome)}, Facts())
    assert found.endings == {"1": "lost"}
    assert "nothing bears out" in found.reasons["1"]


def test_what_was_reviewed_is_so_whatever_a_service_says() -> None:
    found = account([sent("1", A)], [shown(A, 5)], {"1": said("superseded")}, Facts({A: 0}))
    assert found.endings == {"1": "reviewed"}


def test_a_dead_letter_that_nobody_poisoned_is_unexplained() -> None:
    found = account([sent("1", A)], [], {"1": said("dead-lettered")}, Facts())
    assert (found.endings, found.unexplained) == ({"1": "dead-lettered"}, ("1",))


def test_a_review_of_a_head_that_was_overtaken_long_before_is_stale() -> None:
    in_time = account([sent("1", B)], [shown(B, 1_500)], facts=Facts({B: 1_000_000_000}))
    late = account([sent("1", B)], [shown(B, 60_000)], facts=Facts({B: 1_000_000_000}))
    assert (in_time.stale, late.stale) == ((), (B,))


def test_a_redelivery_under_the_same_id_has_an_ending_of_its_own() -> None:
    found = account([sent("1", A, 10), sent("1", A, 20, answer="duplicate")], [shown(A, 60)])
    assert found.endings == {"1": "reviewed", "1+1": "duplicate"}


def test_a_delivery_that_was_appended_by_an_unanswered_attempt_is_none_the_less_the_one_reviewed() -> None:
    """The receiver calls the attempt that it answers a duplicate."""
    assert account([sent("1", A, answer="duplicate")], [shown(A, 60)]).endings == {"1": "reviewed"}
    assert account([sent("1", A, answer="duplicate")], []).endings == {"1": "lost"}
