from sentinelctl.ledger import Sent, Unit, Visible, account, percentile

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
