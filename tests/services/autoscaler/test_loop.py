import json
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from services.autoscaler.loop import Journal, Loop
from services.autoscaler.policy import Decision, Rule, State, Why
from services.autoscaler.replicas import Actor, Counts, EmbeddedActor, Pages, Replica, Unseen
from services.counts import AUTOSCALER, FOLDER, OPERATOR, STATE, read_counts, read_decisions, write_counts
from services.errors import BusUnavailable
from services.stream.types import Lag, TopicPartition
from services.telemetry import Metrics

RULE = Rule(least=1, most=6, target=10, cooldown_s=10, stabilise_s=60, stall_s=30)


class Log:
    """Lags as a test sets them; None: it does not answer."""

    def __init__(self, lags: Sequence[int] | None) -> None:
        self.lags = lags

    async def lag(self, group: str, topic: str) -> list[Lag]:
        if self.lags is None:
            raise BusUnavailable("no broker at kafka:9092")
        assert (group, topic) == ("extractor", "push-events")
        return [Lag(TopicPartition(topic, number), 0, lag, 0.0, 0) for number, lag in enumerate(self.lags)]


def state(folder: Path, running: int, **more: object) -> None:
    """As the supervisor writes it."""
    probe = "http://127.0.0.1:1/ready"
    one = {"service": "extractor", "probe": probe, "status": "running", "failures": 0, "last_exit": "", **more}
    replicas = [{**one, "index": index} for index in range(1, running + 1)]
    (folder / STATE).write_text(json.dumps({"replicas": replicas}))
    (folder / FOLDER).mkdir(exist_ok=True)


def loop(folder: Path, log: Log, page: str = "ready", actor: Actor | None = None) -> Loop:
    client = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, text=page)))
    return Loop(
        {"extractor": RULE}, log, Counts(folder, {"extractor": 1}), actor or EmbeddedActor(folder), Pages(client),
        Journal(folder / "decisions", lambda: 7.0), Metrics(), lambda: 0.0,
    )  # type: ignore[arg-type]  # fmt: skip


def asked(folder: Path) -> dict[str, int]:
    return read_counts(folder / AUTOSCALER, {"extractor": 1})


async def test_a_lag_becomes_a_count_for_the_supervisor_and_a_line_that_says_why(tmp_path: Path) -> None:
    state(tmp_path, 1)
    await loop(tmp_path, Log([10, 10, 10])).look()
    assert asked(tmp_path) == {"extractor": 3}
    assert read_decisions(tmp_path / "decisions") == [
        {
            "at_s": 7.0, "service": "extractor", "was": 1, "replicas": 3, "why": "grow",
            "reason": "30 records wait on 3 partitions",
        }
    ]  # fmt: skip


async def test_a_log_that_does_not_answer_changes_nothing_and_is_quoted(tmp_path: Path) -> None:
    state(tmp_path, 1)
    await loop(tmp_path, Log(None)).look()
    (line,) = read_decisions(tmp_path / "decisions")
    assert (asked(tmp_path), line["why"]) == ({}, "unknown")
    assert "no broker at kafka:9092" in line["reason"]


async def test_an_engine_that_does_not_answer_changes_nothing_and_is_quoted(tmp_path: Path) -> None:
    class Blind(EmbeddedActor):
        async def replicas(self, service: str) -> Sequence[Replica]:
            raise Unseen(f"listing {service}: the engine is silent")

    state(tmp_path, 1)
    await loop(tmp_path, Log([90, 90]), actor=Blind(tmp_path)).look()
    (line,) = read_decisions(tmp_path / "decisions")
    assert (asked(tmp_path), line["why"]) == ({}, "unknown")
    assert "listing extractor: the engine is silent" in line["reason"]


async def test_what_drains_is_no_longer_counted(tmp_path: Path) -> None:
    state(tmp_path, 2, status="draining")
    assert await EmbeddedActor(tmp_path).replicas("extractor") == []
    await loop(tmp_path, Log([0])).look()
    (line,) = read_decisions(tmp_path / "decisions")
    assert line["reason"] == "1 asked for, 0 running"


async def test_a_crash_loop_is_not_fed(tmp_path: Path) -> None:
    state(tmp_path, 1, failures=3, last_exit="exit 1")
    await loop(tmp_path, Log([50, 50])).look()
    (line,) = read_decisions(tmp_path / "decisions")
    assert (asked(tmp_path), line["why"]) == ({}, "crash-loop")
    assert "extractor-1 ended 3 times soon after its start (exit 1)" in line["reason"]


async def test_an_operators_count_is_left_alone_and_taken_over_when_it_is_handed_back(tmp_path: Path) -> None:
    state(tmp_path, 2)
    write_counts(tmp_path / OPERATOR, {"extractor": 2}, {"extractor": 1})
    scaler = loop(tmp_path, Log([90, 90, 90, 90]))
    await scaler.look()
    assert asked(tmp_path) == {"extractor": 2}
    (line,) = read_decisions(tmp_path / "decisions")
    assert line["why"] == "by-hand"
    (tmp_path / OPERATOR).unlink()
    await scaler.look()
    assert asked(tmp_path) == {"extractor": 4}


async def test_a_restarted_autoscaler_goes_on_from_the_count_it_asked_for(tmp_path: Path) -> None:
    state(tmp_path, 1)
    await loop(tmp_path, Log([10, 10])).look()
    state(tmp_path, 2)
    await loop(tmp_path, Log([0, 0])).look()
    assert asked(tmp_path) == {"extractor": 2}
    assert [one["why"] for one in read_decisions(tmp_path / "decisions")] == ["grow", "stabilising"]


def test_the_journal_keeps_the_newest_and_no_repetition(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "decisions", lambda: 0.0, kept=3)
    for count in (1, 1, 2, 3, 4, 4):
        journal.note("extractor", Decision(count, Why.GROW, f"for {count}", State(count)), 1)
    assert [one["replicas"] for one in read_decisions(tmp_path / "decisions")] == [2, 3, 4]
    with (tmp_path / "decisions").open("a") as file:
        file.write('{"half a li')
    assert len(read_decisions(tmp_path / "decisions")) == 3


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"extractor": 3}', '{"extractor": {"replicas": 999, "instead_of": 1}}']
)
def test_a_count_that_makes_no_sense_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / AUTOSCALER).write_text(text)
    assert asked(tmp_path) == {}


def test_a_count_holds_as_long_as_the_settings_ask_for_the_same(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    write_counts(tmp_path / AUTOSCALER, {"extractor": 4}, {"extractor": 1})
    assert asked(tmp_path) == {"extractor": 4}
    assert read_counts(tmp_path / AUTOSCALER, {"extractor": 2}) == {}


async def test_the_wait_for_a_batch_is_the_mean_since_the_look_before() -> None:
    said = iter([(1.0, 10), (4.0, 20), (4.0, 20), (0.5, 1)])

    def answer(_: httpx2.Request) -> httpx2.Response:
        waited, chunks = next(said)
        name = "sentinel_inference_queue_seconds"
        return httpx2.Response(200, text=f"# TYPE x y\n{name}_sum {waited}\n{name}_count {chunks}\n")

    pages = Pages(httpx2.AsyncClient(transport=httpx2.MockTransport(answer)))
    replicas = [Replica("inference-1", "http://127.0.0.1:1/ready")]
    assert [await pages.queue_wait_s(replicas) for _ in range(4)] == [None, 0.3, 0.0, 0.5]
    assert await pages.queue_wait_s([]) is None
