import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from sentinelctl import prometheus
from sentinelctl.errors import SentinelError
from sentinelctl.lifecycle import Project
from sentinelctl.runtime.statefile import StateDir
from sentinelctl.shipped import shipped
from sentinelctl.state import Kind
from services.settings import Settings, load

CONFIG = shipped("compose/prometheus.yml").read_text()


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load(None, {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"), **environ})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `prometheus` that prints how it was called, first on PATH."""
    binary = tmp_path / "bin" / "prometheus"
    binary.parent.mkdir()
    binary.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    binary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{binary.parent}:{os.environ['PATH']}")
    return binary


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


def test_only_the_way_replicas_are_found_differs_from_the_containers_configuration() -> None:
    found = yaml.safe_load(prometheus.rendered(CONFIG, Path("/it's here/targets.json")))
    expected = yaml.safe_load(CONFIG)
    (job,) = expected["scrape_configs"]
    del job["dns_sd_configs"]
    job["file_sd_configs"] = [{"files": ["/it's here/targets.json"]}]
    assert found == expected


@pytest.mark.parametrize("text", ["scrape_configs: []\n", CONFIG + CONFIG.partition("relabel_configs")[2]])
def test_a_configuration_without_the_one_block_is_refused(text: str) -> None:
    with pytest.raises(SentinelError, match="blocks dns_sd_configs, where one was expected"):
        prometheus.rendered(text, Path("targets.json"))


@pytest.mark.usefixtures("installed")
def test_it_runs_once_where_it_is_installed_unless_switched_off(tmp_path: Path) -> None:
    assert prometheus.spec(settings(tmp_path), None).replicas == 1
    assert prometheus.spec(settings(tmp_path), 0).replicas == 0
    off = settings(tmp_path, SENTINEL_PROMETHEUS_ENABLED="false")
    assert (prometheus.spec(off, None).replicas, prometheus.fault(off)) == (0, "")


@pytest.mark.usefixtures("absent")
def test_where_it_is_not_installed_up_goes_without_it_and_says_how_to_get_it(tmp_path: Path) -> None:
    ports = {f"SENTINEL_{role}_METRICS_PORT": "0" for role in ("INFERENCE", "EXTRACTOR", "PUBLISHER")}
    ports |= {"SENTINEL_WEBHOOK_PORT": "0", "SENTINEL_INFERENCE_PORT": "0"}
    given = settings(tmp_path, SENTINEL_WEBHOOK_SECRET="s", SENTINEL_GITHUB_TOKEN="t", **ports)
    planned = Project(given).plan_up()
    assert {operation.service for operation in planned.operations if operation.kind is Kind.START} == {
        "inference", "extractor", "publisher", "webhook"
    }  # fmt: skip
    assert "no prometheus on PATH; install it" in prometheus.fault(given)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("PROMETHEUS_PORT", "9"), ("PROMETHEUS_RETENTION_DAYS", "2.5"), ("PROMETHEUS_RETENTION_MB", "99")],
)
def test_a_setting_of_its_own_replaces_it(tmp_path: Path, variable: str, value: str) -> None:
    before, after = (prometheus.spec(settings(tmp_path, **env), None) for env in ({}, {f"SENTINEL_{variable}": value}))
    assert before.identity != after.identity


def test_it_serves_on_loopback_and_its_data_is_bounded(tmp_path: Path, installed: Path) -> None:
    spec = prometheus.spec(settings(tmp_path, SENTINEL_PROMETHEUS_RETENTION_DAYS="2.5"), None)
    StateDir(tmp_path / "state").create()
    env = {**os.environ, **spec.env, "SENTINEL_PROMETHEUS_PORT": "1234"}
    done = subprocess.run(spec.command, env=env, check=True, capture_output=True, text=True)
    assert set(json.loads(done.stdout)) >= {
        f"--config.file={tmp_path}/state/prometheus/prometheus.yml",
        f"--storage.tsdb.path={tmp_path}/state/prometheus/data",
        "--storage.tsdb.retention.time=60h",
        "--storage.tsdb.retention.size=512MB",
        "--web.listen-address=127.0.0.1:1234",
    }
    written = {path.name for path in (tmp_path / "state" / "prometheus").iterdir()}
    assert written == {"prometheus.yml", *yaml.safe_load(CONFIG)["rule_files"]}


def test_a_binary_that_is_gone_is_said(tmp_path: Path, installed: Path) -> None:
    spec = prometheus.spec(settings(tmp_path), None)
    installed.unlink()
    StateDir(tmp_path / "state").create()
    env = {**os.environ, **spec.env, "SENTINEL_PROMETHEUS_PORT": "1234"}
    done = subprocess.run(spec.command, env=env, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"{installed} did not start" in done.stderr


@contextlib.contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def alert(name: str, severity: str, state: str = "firing") -> dict[str, Any]:
    return {
        "labels": {"alertname": name, "severity": severity}, "annotations": {"summary": f"{name}!"}, "state": state
    }  # fmt: skip


def test_alerts_that_fire_are_told_pages_first() -> None:
    alerts = [alert("Budget", "ticket"), alert("Waits", "page", "pending"), alert("Slow", "page")]
    with answering(200, json.dumps({"status": "success", "data": {"alerts": alerts}}).encode()) as url:
        assert prometheus.firing(url) == [
            {"alert": "Slow", "severity": "page", "summary": "Slow!"},
            {"alert": "Budget", "severity": "ticket", "summary": "Budget!"},
        ]


@pytest.mark.parametrize(("status", "body"), [(503, b"Service Unavailable"), (200, b"null"), (200, b'{"data": {}}')])
def test_what_does_not_answer_has_no_alerts_to_tell(status: int, body: bytes) -> None:
    with answering(status, body) as url:
        assert prometheus.firing(url) == []
    assert prometheus.firing(url) == []


def test_all_that_it_wrote_goes_with_the_data_and_nothing_else(tmp_path: Path) -> None:
    project = Project(settings(tmp_path))
    project.prepare()
    data = project.state_dir.prometheus / "data" / "wal"
    data.mkdir(parents=True)
    (data / "00000000").write_text("samples")
    project.state_dir.targets.write_text("[]")
    deleted = {path.name for path in project.delete_data()}
    assert deleted >= {"00000000", "targets.json"}
    assert not project.state_dir.prometheus.exists()
