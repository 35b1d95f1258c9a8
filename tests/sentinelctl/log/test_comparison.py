import io

from rich.console import Console
from sentinel.v1.events_pb2 import ReviewReady
from sentinel.v1.inference_pb2 import Finding, Model

from sentinelctl.log.comparison import Compared, compare, shown, summary, totals
from sentinelctl.log.rehearsal import UNFINISHED, Said
from services.contract import Outcome
from tests.sentinelctl.conftest import push

from .test_past import past


def finding(line: int, confidence: float, *, is_shown: bool = True, concept: str = "bare_except") -> Finding:
    return Finding(
        path="a.py", line=line, side="RIGHT", concept=concept, title=f"About {concept}", severity="bug",
        category="logic", confidence=confidence, is_shown=is_shown,
    )  # fmt: skip


def said(*findings: Finding) -> Said:
    event = push()
    review = ReviewReady(event=event, findings=findings, model=Model(digest="d"))
    return Said(past(event), Outcome.REVIEWED, "", review)


def text(one: Compared) -> str:
    page = io.StringIO()
    Console(file=page, width=200).print(shown(one))
    return page.getvalue()


def test_each_shown_finding_is_one_sides_or_both_with_both_confidences() -> None:
    a = said(finding(1, 0.9), finding(2, 0.8), finding(3, 0.7), finding(4, 0.3, is_shown=False))
    b = said(finding(1, 0.6), finding(3, 0.4, is_shown=False), finding(4, 0.5), finding(2, 0.75, concept="eval_exec"))
    document = compare(a, b).document()
    sides = {
        name: [(one["line"], one["concept"], one["confidence_a"], one["confidence_b"]) for one in document[name]]
        for name in ("only_a", "only_b", "both")
    }
    assert sides == {
        "only_a": [(2, "bare_except", 0.8, None), (3, "bare_except", 0.7, 0.4)],
        "only_b": [(2, "eval_exec", None, 0.75), (4, "bare_except", 0.3, 0.5)],
        "both": [(1, "bare_except", 0.9, 0.6)],
    }
    assert document["delivery_id"] == "d-1"


def test_people_read_what_differs_and_which_side_says_it() -> None:
    one = compare(said(finding(1, 0.9), finding(2, 0.9), finding(3, 0.8)), said(finding(1, 0.6), finding(2, 0.88)))
    lines = [" ".join(line.split()) for line in text(one).splitlines()]
    assert lines[0].endswith("1 only A, 0 only B, 2 both")
    assert lines[1:] == [
        "A a.py:3 bug A 80% B silent About bare_except",
        "both a.py:1 bug A 90% B 60% About bare_except",
    ]
    hidden = compare(said(), said(finding(1, 0.6), finding(2, 0.2, is_shown=False)))
    assert "B a.py:1 bug A silent B 60%" in " ".join(text(hidden).split())
    assert "a.py:2" not in text(hidden)
    unsure = compare(said(finding(7, 0.4, is_shown=False)), said(finding(7, 0.6)))
    assert "A 40%, not shown B 60%" in " ".join(text(unsure).split())


def test_an_event_that_one_side_did_not_review_is_said_and_not_compared() -> None:
    missing = Said(past(push()), UNFINISHED, "not done after 3 s")
    one = compare(said(finding(1, 0.9)), missing)
    assert (one.is_compared, one.only_a, one.both) == (False, (), ())
    assert "A reviewed  B unfinished: not done after 3 s" in text(one)
    assert one.document()["outcomes"]["b"] == {"outcome": "unfinished", "reason": "not done after 3 s"}


def test_the_totals_count_every_event() -> None:
    first = compare(said(finding(1, 0.9), finding(2, 0.9)), said(finding(1, 0.7), finding(2, 0.8)))
    second = compare(said(finding(1, 0.9)), said())
    third = compare(said(), Said(past(push()), UNFINISHED, "late"))
    found = totals([first, second, third])
    assert found == {
        "events": 3, "events_compared": 2, "only_a": 1, "only_b": 0, "both": 2, "mean_change": 0.15,
        "largest_change": 0.2,
    }  # fmt: skip
    assert summary(found) == (
        "in 2 of 3 events: 1 finding only A, 0 only B, 2 both, whose confidence differs by 15.0% on average and 20.0% "
        "at most"
    )
    assert summary(totals([second])) == "in 1 of 1 event: 1 finding only A, 0 only B, 0 both"


def test_many_lines_are_cut_for_people_alone() -> None:
    one = compare(said(*[finding(line, 0.9) for line in range(1, 31)]), said())
    assert "… and 18 more; --json has all" in text(one)
    assert len(one.document()["only_a"]) == 30
