"""No session leaves anything on a Docker engine that carries one of its projects' labels: one that does has failed.

What fault tests found (record_property "fault") is printed as BENCHMARK.md's table, and written as JSON to
SENTINEL_TEST_REPORT where that names a file."""

import json
import os
import uuid
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # workers have their controller's
        os.environ["SENTINEL_TEST_SESSION"] = uuid.uuid4().hex[:8]


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """After the last fixture. Checked by test_leftovers.py."""
    from sentinelctl.runtime.engine import address_of, silence

    if hasattr(session.config, "workerinput") or silence(address_of("")):
        return
    from tests.docker_engine import left_behind

    if left := left_behind():
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.section("left on the Docker engine", red=True)
        for line in left:
            reporter.write_line(line)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


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
