"""The dashboard, the rules and the alerts as data, and the metrics that they name."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "grafana/dashboards/sentinel.json").read_text(encoding="utf-8"))
_STRING = re.compile(r"\"[^\"]*\"|'[^']*'")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)")
_METRIC = re.compile(r"(?<![\w:.$])([A-Za-z_:][\w:]*)(?![\w:]*\s*\()(?=\s*[\[{)+*/<>=!,-]|\s|$)")
_WORDS = {"and", "or", "unless", "offset", "bool", "inf", "nan"}
_SELECTOR = re.compile(r"\{[^}]*\}")
_SUFFIX = re.compile(r"_(bucket|sum|count)$")


def load(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str, bool]]:
    """Title of the panel, the query, and whether it is asked for one moment alone."""
    return [(panel["title"], one["expr"], one["instant"]) for panel in panels() for one in panel["targets"]]


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in load(f"compose/{name}")["groups"] for rule in group["rules"]]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules("rules.yml")}


def expressions() -> Iterator[tuple[str, str]]:
    """Everything that names a metric, with where it stands."""
    for title, query, _ in queries():
        yield f"panel {title}", query
    for name in ("rules.yml", "alerts.yml"):
        for rule in rules(name):
            yield f"{name} {rule.get('alert') or rule.get('record')}", rule["expr"]


def metrics_in(expression: str) -> set[str]:
    """Names of metrics, without what a histogram adds to its own."""
    text = _SELECTOR.sub("{}", _STRING.sub('""', expression))
    text = _GROUPING.sub(" ", text)
    found = {name for name in _METRIC.findall(re.sub(r"\[[^\]]*\]", "[]", text)) if name.lower() not in _WORDS}
    return {_SUFFIX.sub("", name) if name.startswith("sentinel_") else name for name in found}
