import json
from pathlib import Path

import pytest

from sentinelctl.bench.result import Result, read
from sentinelctl.bench.search import Found, Try
from sentinelctl.bench.shape import Shape
from sentinelctl.bench.threshold import parse
from sentinelctl.errors import UsageError

from .made import ENVIRONMENT, made_run


def result(**more: object) -> Result:
    return Result("webhook", ["--rate", "5"], ENVIRONMENT, Shape(rate=5), {"log": "sqlite"}, **more)  # type: ignore[arg-type]


def test_figures_are_medians_of_the_runs_and_what_went_wrong_is_a_sum() -> None:
    made = result(runs=[made_run([ms] * 100, refused=refused) for ms, refused in ((10, 1), (30, 0), (20, 2))])
    figures = made.figures()
    assert figures["latency_ms"]["p99"] == pytest.approx(20, rel=0.001)
    assert (figures["sent"], figures["errors"], figures["dropped"]) == (303, 3, 0)


def test_a_condition_that_holds_is_a_fault_beside_those_of_the_runs() -> None:
    made = result(runs=[made_run([30.0] * 100, dropped=1)])
    assert made.faults([parse("p99>1s")]) == made.faults()
    dropped, slow = made.faults([parse("p99>20ms")])
    assert "dropped" in dropped
    assert slow.startswith("p99>20ms: it is 30")


def test_a_search_that_found_nothing_is_a_fault_with_its_reason() -> None:
    run = made_run([900.0] * 100)
    made = result(searches=[Found(None, (Try(5, run, ("too slow",)),), "too slow")])
    assert made.faults() == ["no rate met the objective: too slow"]
    assert made.document()["find_max"]["rate"] == [None]


def test_a_document_says_what_it_was_got_from_and_is_read_again(tmp_path: Path) -> None:
    document = result(runs=[made_run()]).document()
    assert document["command"] == "sentinelctl bench webhook --rate 5"
    assert document["shape"]["seed"] == 1
    assert document["environment"]["model"]["digest"] == "d" * 64
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert read(tmp_path / "a.json") == json.loads(json.dumps(document))


@pytest.mark.parametrize(("text", "fault"), [("{", "is no JSON"), ("[]", "is no result of this version")])
def test_what_is_no_document_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UsageError, match=fault):
        read(tmp_path / "a.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "b.json")
