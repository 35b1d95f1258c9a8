from hypothesis import given
from hypothesis import strategies as st

from sentinelctl.runtime.supervisor import delay_s


def test_the_wait_before_a_restart_doubles_up_to_a_bound() -> None:
    assert [delay_s(failures, 0.0) for failures in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert delay_s(50, 0.0) == 30.0


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_chance_shortens_the_wait_by_at_most_half(failures: int, jitter: float) -> None:
    assert delay_s(failures, 0.0) / 2 <= delay_s(failures, jitter) <= delay_s(failures, 0.0)
