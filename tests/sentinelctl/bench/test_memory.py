import os
import time

import pytest

from sentinelctl.bench.memory import growth, watched
from sentinelctl.state import Replica


def test_growth_is_that_of_the_last_quarter_over_the_second_by_the_hour() -> None:
    """Sixteen samples a minute apart: 8 minutes from the middle of the second quarter to that of the last."""
    at_s = [60.0 * number for number in range(16)]
    still, leaks = [100.0] * 16, [100.0 + number for number in range(16)]
    assert growth(at_s, {"still": still, "leaks": leaks}) == {"still": 0.0, "leaks": pytest.approx(60.0)}


def test_the_warm_up_is_no_growth() -> None:
    assert growth([float(each) for each in range(8)], {"a": [10, 90, 100, 100, 100, 100, 100, 100]}) == {"a": 0.0}


def test_too_few_samples_tell_nothing() -> None:
    assert growth([0, 1, 2], {"a": [1, 2, 3]}) == {}


def test_what_runs_is_sampled_until_the_end(replica: Replica) -> None:
    with watched([replica], seconds=0.0) as memory:
        deadline = time.monotonic() + 20
        while len(memory.at_s) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    document = memory.document()
    assert len(document["at_s"]) == len(document["mb"]["inference"]) >= 2
    assert min(document["mb"]["inference"]) > 5


@pytest.fixture
def replica() -> Replica:
    return Replica("inference", 1, {}, pid=os.getpid())
