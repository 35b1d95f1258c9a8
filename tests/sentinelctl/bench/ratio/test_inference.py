import pytest

from sentinelctl.bench.ratio.inference import Pair, Result


@pytest.mark.parametrize(("server_s", "faults"), [(1.0, []), (1.17, []), (1.25, ["the ratio is 0.80, below 0.85"])])
def test_the_server_must_reach_its_share_of_the_direct_throughput(server_s: float, faults: list[str]) -> None:
    result = Result("m 1", "onnx", 4, calls=10, chunks=320, tokens=9600, pairs=[Pair(server_s, 1.0)] * 3)
    assert result.faults() == faults
    result.lone_ms = {"server": [4.0, 5.0, 9.0], "direct": [3.0, 3.0, 3.0]}
    document = result.document()
    assert document["faults"] == faults
    assert document["direct"]["chunks_per_s"]["median"] == 320.0
    assert document["server"]["tokens_per_s"]["median"] == pytest.approx(9600 / server_s, abs=1e-3)
    assert (document["server"]["lone_p50_ms"], document["server"]["lone_p99_ms"]) == (5.0, 9.0)
