import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from sentinelctl.bench.pictures import pictures
from sentinelctl.bench.report import BLOCKS, Stored, load, written
from sentinelctl.bench.suite import MEASUREMENTS
from sentinelctl.errors import UsageError

from .made import made_result

ROOT = Path(__file__).parents[3]


def page(name: str, *, before: str = "") -> str:
    return f"by hand\n\n<!-- bench: {name} -->\n{before}<!-- /bench -->\n\nby hand too\n"


def block(name: str, **documents: Any) -> str:
    stored = Stored(documents, lambda file: f"results/{file}")
    text, seen = written(page(name, before="what stood there\n"), stored)
    assert seen == [name]
    assert text.startswith("by hand\n\n<!-- bench")
    assert text.endswith("<!-- /bench -->\n\nby hand too\n")
    assert "what stood there" not in text
    return text


def row(text: str, *parts: str) -> str:
    (found,) = (line for line in text.splitlines() if all(part in line for part in parts))
    return found


def test_the_receiver_stands_beside_the_reference_with_its_command_and_its_file() -> None:
    text = block("receiver", **{"webhook-50-users": made_result("webhook-50-users")})
    found = row(text, "5 / 19 / 47")
    assert "| 50 | 10 | 0 of 100 | 50.0 | 99.0 | 100 | 100 |" in found.replace("100.0", "100")
    assert "[`sentinelctl bench webhook --users 50 --rate 150 --duration 60`](results/webhook-50-users.json)" in found


def test_what_was_not_measured_says_so_and_how() -> None:
    missing = {"version": 1, "kind": "missing", "command": "sentinelctl bench x", "why": "no Kafka was given"}
    text = block("receiver", **{"webhook-max-kafka": missing})
    assert "`sentinelctl bench x`" in row(text, "not measured: no Kafka was given")
    assert text.count("Not measured yet: `sentinelctl bench all --only webhook`") == 1


def test_a_fault_stands_beside_the_figures_it_spoils() -> None:
    spoiled = {**made_result("webhook-5-users"), "faults": ["2 of 900 arrivals were refused"]}
    assert "**2 of 900 arrivals were refused**" in row(block("receiver", **{"webhook-5-users": spoiled}), "8 / 15 / 26")


def test_the_pipeline_says_whether_the_forge_s_limits_were_on() -> None:
    on, off = made_result("pipeline-limits-on"), made_result("pipeline-limits-off", forge_limits="off")
    text = block("pipeline", **{"pipeline-limits-on": on, "pipeline-limits-off": off})
    assert row(text, "--duration 60`](results/pipeline-limits-on.json)").startswith("| on |")
    assert row(text, "results/pipeline-limits-off.json)").startswith("| off |")
    assert "| github | 610 | 650 | 660 |" in text
    assert "![Webhook to visible review, by percentile](results/pipeline-latency.svg)" in text


def test_the_machine_is_said_once_and_an_other_one_apart() -> None:
    one, two = made_result("webhook-5-users"), made_result("webhook-50-users")
    text = block("machine", a=one, b=two)
    assert "2 results, " in text
    assert "on 2 cores (a CPU), 24 GB" in text
    assert "revision 0123456789ab; model small 0.1.0 (dddddddddddd)" in text
    other = {**two, "environment": {**two["environment"], "cores": 64}}
    assert "on 64 cores" in block("machine", a=one, b=other)


def test_every_measurement_of_the_suite_is_shown_somewhere() -> None:
    documents = {one.name: made_result(one.name) for one in MEASUREMENTS}
    text = "".join(block(name, **documents) for name in BLOCKS)
    assert [one.name for one in MEASUREMENTS if f"results/{one.name}." not in text] == []
    drawn = pictures(documents)
    assert {name for name in drawn if f"results/{name}.svg" not in text} == set()
    for svg in drawn.values():
        ElementTree.fromstring(svg)


def test_without_results_there_is_neither_a_picture_nor_a_report(tmp_path: Path) -> None:
    assert pictures({}) == {}
    with pytest.raises(UsageError, match="no result is stored in"):
        load(tmp_path)


def test_a_mark_that_means_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="no block is named 'recevier'"):
        written(page("recevier"), Stored({}, str))


def test_a_file_that_is_no_result_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text(json.dumps({"version": 0, "kind": "webhook"}))
    with pytest.raises(UsageError, match=r"old\.json is no result of this version"):
        load(tmp_path)


def test_benchmark_md_has_every_block_and_is_what_the_command_writes() -> None:
    text, folder = (ROOT / "BENCHMARK.md").read_text(encoding="utf-8"), ROOT / ".github" / "bench"
    again, seen = written(
        text, Stored(load(folder) if any(folder.glob("*.json")) else {}, lambda name: f".github/bench/{name}")
    )
    assert sorted(seen) == sorted(BLOCKS)
    assert again == text, "run `sentinelctl bench report`"
