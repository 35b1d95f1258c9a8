from itertools import combinations, pairwise
from typing import Any

import pytest

from . import check
from .dashboard import DASHBOARD, ROOT, load, metrics_in, panels, queries

ROWS = ["Traffic", "Latency", "Compute", "Quality"]


def test_grafanas_own_types_take_every_part_of_it() -> None:
    try:
        assert check.faults(DASHBOARD) == []
    except check.NoNpm as exc:
        pytest.skip(str(exc))


def test_grafanas_own_types_refuse_what_they_do_not_know() -> None:
    """Or the test above could not fail."""
    broken: dict[str, Any] = {**DASHBOARD, "panels": [{**DASHBOARD["panels"][1], "gridpos": {}}]}
    try:
        assert any("gridpos" in line for line in check.faults(broken))
    except check.NoNpm as exc:
        pytest.skip(str(exc))


def test_it_has_four_rows_and_each_shows_something() -> None:
    kinds = [(panel["type"], panel["title"]) for panel in DASHBOARD["panels"]]
    assert [title for kind, title in kinds if kind == "row"] == ROWS
    assert kinds[0] == ("row", "Traffic")
    for first, second in pairwise([*(at for at, (kind, _) in enumerate(kinds) if kind == "row"), len(kinds)]):
        assert second - first > 3, kinds[first]


def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
    at = panel["gridPos"]
    return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}


def test_no_two_panels_overlap_and_none_leaves_a_hole() -> None:
    for one, other in combinations(DASHBOARD["panels"], 2):
        assert not cells(one) & cells(other), (one["title"], other["title"])
    covered = set().union(*map(cells, DASHBOARD["panels"]))
    assert covered == {(x, y) for x in range(24) for y in range(max(y for _, y in covered) + 1)}


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_in_which_unit_and_from_the_chosen_source(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries", "heatmap", "table"}, "graph, singlestat and the like are gone"
    assert panel["description"].endswith(".")
    unit = panel["fieldConfig"]["defaults"].get("unit") or panel["options"]["yAxis"]["unit"]
    assert unit in {"short", "s", "bytes", "percentunit", "reqps", "ops", "cpm"}
    sources = [panel["datasource"], *(one["datasource"] for one in panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    if panel["type"] == "timeseries":
        assert all(one["legendFormat"] for one in panel["targets"]), "a line needs a name"
    if panel["type"] == "stat":
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"]


def test_ids_titles_and_references_are_unique() -> None:
    for values in (
        [panel["id"] for panel in DASHBOARD["panels"]],
        [panel["title"] for panel in DASHBOARD["panels"]],
        *[[one["refId"] for one in panel["targets"]] for panel in panels()],
    ):
        assert len(values) == len(set(values))


def test_rates_are_taken_over_windows_that_fit_the_scrapes() -> None:
    """A rate over less than two scrapes is empty; Grafana works the least window out from the source's interval."""
    (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    assert source["jsonData"]["timeInterval"] == load("compose/prometheus.yml")["global"]["scrape_interval"]
    for title, query, _ in queries():
        assert "[10s]" not in query, title
        assert "[5s]" not in query, title


def test_what_is_provisioned_is_where_the_files_are() -> None:
    (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    chosen = DASHBOARD["templating"]["list"][0]
    assert (chosen["type"], chosen["query"]) == ("datasource", source["type"])
    assert chosen["current"] == {"selected": False, "text": source["name"], "value": source["uid"]}
    (provider,) = load("grafana/provisioning/dashboards/sentinel.yml")["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    assert "/etc/grafana/dashboards" in (ROOT / "grafana/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ("histogram_quantile(0.99, sum by (le) (rate(sentinel_a_bucket[5m])))", {"sentinel_a"}),
        ("sum by (topic) (x_total unless x_total offset 5m) > 0", {"x_total"}),
        ("1 - sum(rate(sentinel_a_sum{le=\"2.0\"}[1h])) / sum(a:b:c)", {"sentinel_a", "a:b:c"}),
        ('count(ALERTS{alertstate="firing"}) or vector(0)', {"ALERTS"}),
        ("group by (service) (up{job=\"sentinel\"}) == 0", {"up"}),
        ("sum(rate(x_seconds[$__rate_interval])) * 60", {"x_seconds"}),
    ],
)  # fmt: skip
def test_names_are_found_in_an_expression(expression: str, named: set[str]) -> None:
    assert metrics_in(expression) == named
