"""The configuration and the rules, by Prometheus's own tool: each alert has a case that fires it and a silent one."""

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from sentinelctl.prometheus import rendered
from services.contract import Port, Role
from tests.grafana.dashboard import ROOT, load, rules

COMPOSE = ROOT / "compose"
CASES = ("alerts_test.yml", "burn_test.yml")
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on PATH: apt-get install prometheus"
)


def promtool(*words: str, cwd: Path = COMPOSE) -> str:
    done = subprocess.run(["promtool", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.prometheus
@needs_promtool
def test_promtool_takes_the_configuration_and_the_rules(tmp_path: Path) -> None:
    promtool("check", "config", "prometheus.yml")
    (tmp_path / "prometheus.yml").write_text(
        rendered((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"), tmp_path / "targets.json")
    )
    for name in ("rules.yml", "alerts.yml"):
        shutil.copy(COMPOSE / name, tmp_path)
    promtool("check", "config", "--lint-fatal", "prometheus.yml", cwd=tmp_path)


@pytest.mark.prometheus
@pytest.mark.slow
@needs_promtool
@pytest.mark.parametrize("name", CASES)
def test_each_case_fires_or_is_silent_as_it_says(name: str) -> None:
    promtool("test", "rules", name)


def test_each_alert_has_a_case_that_fires_it_and_one_that_does_not() -> None:
    firing, silent = Counter[str](), Counter[str]()
    for name in CASES:
        for case in load(f"compose/{name}")["tests"]:
            for one in case["alert_rule_test"]:
                (firing if one["exp_alerts"] else silent)[one["alertname"]] += 1
    alerts = {rule["alert"] for rule in rules("alerts.yml")}
    assert firing.keys() == alerts
    assert silent.keys() == alerts


def test_cases_are_judged_after_what_they_need_is_recorded() -> None:
    """promtool takes groups that are not named in any order."""
    groups = [group["name"] for name in ("rules.yml", "alerts.yml") for group in load(f"compose/{name}")["groups"]]
    assert [load(f"compose/{name}")["group_eval_order"] for name in CASES] == [groups] * len(CASES)


def test_an_alert_says_what_is_seen_what_to_do_and_how_much_it_hurries() -> None:
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_every_role_is_scraped_where_it_listens() -> None:
    (job,) = yaml.safe_load((COMPOSE / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    found = {name: one["port"] for one in job["dns_sd_configs"] for name in one["names"]}
    ports = {
        "webhook": Port.WEBHOOK,
        "extractor": Port.EXTRACTOR_METRICS,
        "inference": Port.INFERENCE_METRICS,
        "publisher": Port.PUBLISHER_METRICS,
        "autoscaler": 9090,
    }
    assert found == ports
    assert {role.value for role in Role} <= found.keys()
