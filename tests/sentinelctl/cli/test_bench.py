"""The bench commands that measure nothing: comparing, listing, and writing the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sentinelctl.bench.made import made_result

Ctl = Callable[..., Any]


def stored(folder: Path, name: str, document: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    return str(folder / f"{name}.json")


def with_runs(p99: list[float]) -> dict[str, Any]:
    document = made_result("webhook-5-users")
    (run,) = document["runs"]
    document["runs"] = [{**run, "latency_ms": {**run["latency_ms"], "p99": value}} for value in p99]
    return document


def test_a_figure_that_got_worse_is_told_with_its_interval_and_exits_99_where_asked(ctl: Ctl, tmp_path: Path) -> None:
    a, b = stored(tmp_path, "a", with_runs([10, 11, 12])), stored(tmp_path, "b", with_runs([20, 22, 24]))
    done = ctl("bench", "compare", a, b)
    assert done.code == 0
    (line,) = (line for line in done.out.splitlines() if line.startswith("p99 "))
    assert line.split() == ["p99", "10.97", "21.94", "2.000", "1.627", "to", "2.459", "worse"]
    done = ctl("--json", "bench", "compare", a, b, "--fail-if-worse", "p99")
    assert done.code == 99
    (change,) = (one for one in json.loads(done.out)["changes"] if one["metric"] == "p99")
    assert change["verdict"] == "worse"
    assert ctl("bench", "compare", b, a, "--fail-if-worse", "p99").code == 0
    assert ctl("bench", "compare", a, b, "--fail-if-worse", "p98").code == 2


def test_the_page_is_written_from_stored_results_and_what_stands_beside_them_stays(ctl: Ctl, tmp_path: Path) -> None:
    folder, page = tmp_path / "stored", tmp_path / "PAGE.md"
    stored(folder, "pipeline-limits-on", made_result("pipeline-limits-on"))
    page.write_text("by hand\n<!-- bench: pipeline -->\n<!-- /bench -->\n", encoding="utf-8")
    words = ("bench", "report", "--from", str(folder), "--page", str(page))
    assert ctl(*words, "--check").code == 100
    assert "results" not in page.read_text(encoding="utf-8")
    assert ctl(*words).code == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("by hand\n")
    assert "](stored/pipeline-limits-on.json)" in text
    assert (folder / "pipeline-latency.svg").read_text(encoding="utf-8").startswith("<svg")
    assert ctl(*words, "--check").code == 0, "the same results give the same bytes"


def test_a_page_without_results_is_left_alone(ctl: Ctl, tmp_path: Path) -> None:
    done = ctl("bench", "report", "--from", str(tmp_path), "--page", str(tmp_path / "PAGE.md"))
    assert done.code == 2
    assert "no result is stored" in done.err


def test_the_suite_is_listed_with_its_commands(ctl: Ctl) -> None:
    done = ctl("--json", "bench", "all", "--list", "--only", "webhook-5-", "--scale", "0.5")
    (row,) = json.loads(done.out)["measurements"]
    assert row["command"] == "sentinelctl bench webhook --users 5 --rate 15 --duration 30"
    assert ctl("bench", "all", "--list", "--only", "nothing").code == 2
    whole = ctl("--json", "bench", "all", "--list", "--only", "webhook-max").document["measurements"]
    assert [one["name"] for one in whole] == ["webhook-max"], "a whole name is no beginning of another"


def test_conditions_that_make_no_sense_are_refused_before_anything_starts(ctl: Ctl) -> None:
    assert "has no unit" in ctl("bench", "webhook", "--fail-if", "p99>2").err
    assert "--fail-if takes rate" in ctl("bench", "drain", "--fail-if", "p99>2s").err
    assert "no SERVICE=N" in ctl("bench", "drain", "--replicas", "webhook=2").err
