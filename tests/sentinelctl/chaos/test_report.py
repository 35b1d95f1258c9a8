import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sentinelctl.chaos import report
from sentinelctl.chaos.experiments import chosen
from sentinelctl.chaos.run import Pace, Result
from sentinelctl.chaos.verdict import Observed, Sample, Verdict
from sentinelctl.errors import SentinelError
from sentinelctl.ledger import Sent, Unit, Visible, account


@pytest.fixture
def result() -> Result:
    """Ten seconds of load at 1/s; a fault from 3 to 6, during which the log cannot be read; one delivery lost."""
    units = [Unit(1, None, f"{number:040x}") for number in range(10)]
    deliveries = [
        Sent(f"<d{number}>", unit, (100 + number) * 10**9, 202, "accepted", "", (100 + number) * 10**9 + 1)
        for number, unit in enumerate(units)
    ]
    visible = [Visible(unit, (101 + number) * 10**9) for number, unit in enumerate(units[:-1])]
    samples = [
        Sample(100 + number / 4, number // 4, number // 4, number // 5, None if 12 < number < 24 else number % 7)
        for number in range(48)
    ]
    observed = Observed(seen="<it> was seen", began=99, fault_from=103, fault_to=106, last_sent=109, settled=112)
    observed.sent, observed.account, observed.samples = deliveries, account(deliveries, visible), samples
    observed.stages = [{"delivery_id": "<d0>", "topic": "push-events", "partition": 3, "offset": 7, "at": 100.1}]
    return Result(chosen(["kill-webhook"])[0], Pace(), Verdict.DEVIATED, ["1 lost"], observed)


def test_the_journal_holds_the_ledger_delivery_by_delivery(result: Result, tmp_path: Path) -> None:
    report.write(tmp_path / "out", [result])
    (found,) = json.loads((tmp_path / "out" / "journal.json").read_text())["experiments"]
    first, *_, last = found["deliveries"]
    assert first["stages"] == [{"topic": "push-events", "partition": 3, "offset": 7, "at": 100.1}]
    assert (first["ending"], first["reason"], first["ended_at"]) == ("reviewed", "visible on the forge", 101.0)
    assert (last["ending"], last["ended_at"]) == ("lost", 0)
    assert (found["verdict"], found["reasons"], found["lost"], found["seed"]) == ("deviated", ["1 lost"], 1, 1)
    assert len(found["timeline"]) == 48


def test_the_summary_says_the_verdict_its_reason_and_how_everything_ended(result: Result) -> None:
    text = report.markdown([result])
    assert "| kill-webhook | deviated | 1 | 10 | 10 | 1 |" in text
    assert "- why not passed: 1 lost" in text
    assert "10 acknowledged = 9 reviewed + 0 superseded" in text


def test_the_page_is_whole_and_takes_nothing_for_markup(result: Result) -> None:
    page = report.page([result, result])
    assert page.count("<svg") == 2
    assert "&lt;it&gt; was seen" in page
    assert "<it>" not in page
    assert "http" not in page.replace("http://www.w3.org", ""), "nothing is fetched"


def test_the_picture_shows_the_fault_and_a_gap_where_the_log_could_not_be_read(result: Result) -> None:
    picture = ElementTree.fromstring(report.timeline(result.observed))
    texts = [one.text for one in picture.iter("text")]
    assert {"fault", "recovered, 1.0 s", "0 s", "10 s"} <= set(texts)
    lines = [one.attrib["points"].split() for one in picture.iter("polyline") if one.attrib["stroke"] == "#1d4ed8"]
    assert [len(one) for one in lines] == [13, 24]


def test_a_run_that_never_began_has_no_picture() -> None:
    assert report.timeline(Observed()) == ""


def test_one_whose_stack_did_not_come_up_failed_and_says_why_among_the_others(result: Result) -> None:
    (experiment,) = chosen(["cut-forge"])
    failed = Result.without_a_stack(experiment, Pace(), "docker", SentinelError("port 1 is taken"))
    assert failed.verdict is Verdict.FAILED
    text = report.markdown([result, failed])
    assert "- why not passed: its stack did not come up: port 1 is taken" in text
    assert report.page([result, failed]).count("<svg") == 1
