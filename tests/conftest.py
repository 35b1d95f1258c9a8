"""What fault tests found (record_property "fault") is printed as BENCHMARK.md's table, and written as JSON to
SENTINEL_TEST_REPORT where that names a file."""

import json
import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """For several workers: tests of the one engine follow each other, and those of a file share its services."""
    for item in items:
        if item.get_closest_marker("docker"):
            item.add_marker(pytest.mark.xdist_group("docker"))
        elif item.get_closest_marker("e2e") and item.path.stem != "test_faults":  # each of which has its own
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "fault"
    ]
    if not rows:
        return
    columns = list(rows[0])
    terminalreporter.section("faults")
    for cells in (columns, ["---"] * len(columns), *(row.values() for row in rows)):
        terminalreporter.write_line(f"| {' | '.join(map(str, cells))} |")
    if path := os.environ.get("SENTINEL_TEST_REPORT"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
