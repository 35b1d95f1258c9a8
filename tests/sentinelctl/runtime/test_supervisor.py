from hypothesis import given
from hypothesis import strategies as st

from sentinelctl.runtime.supervisor import delay_s, targets
from sentinelctl.state import Replica, Status


def test_the_wait_before_a_restart_doubles_up_to_a_bound() -> None:
    assert [delay_s(failures, 0.0) for failures in (1, 2, 3, 4)] == [0.2, 0.4, 0.8, 1.6]
    assert delay_s(50, 0.0) == 30.0


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_chance_shortens_the_wait_by_at_most_half(failures: int, jitter: float) -> None:
    assert delay_s(failures, 0.0) / 2 <= delay_s(failures, jitter) <= delay_s(failures, 0.0)


def test_every_replica_that_is_probed_is_a_target_under_its_name() -> None:
    replicas = [
        Replica("inference", 2, {}, probe="http://127.0.0.1:4711/ready", status=Status.BACKING_OFF),
        Replica("prometheus", 1, {}, probe="http://127.0.0.1:9091/-/ready"),
        Replica("silent", 1, {}),
    ]
    assert targets(replicas) == [
        {"targets": ["127.0.0.1:4711"], "labels": {"service": "inference", "instance": "inference-2"}},
        {"targets": ["127.0.0.1:9091"], "labels": {"service": "prometheus", "instance": "prometheus-1"}},
    ]
