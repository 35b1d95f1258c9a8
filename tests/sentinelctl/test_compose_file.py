import json
from pathlib import Path
from typing import Any

import yaml

from sentinelctl.compose_file import document, render
from services.settings import load

ROOT = Path(__file__).parents[2]
HIDDEN = {"SENTINEL_WEBHOOK_SECRET": "hidden-one", "SENTINEL_GITHUB_TOKEN": "hidden-$two"}


def services(**environ: str) -> dict[str, Any]:
    found: dict[str, Any] = document(load(None, environ))["services"]
    return found


def test_the_committed_file_is_what_the_command_writes_of_the_defaults() -> None:
    committed = (ROOT / "compose" / "compose.yaml").read_text(encoding="utf-8")
    assert render(load(None, {}), ROOT / "compose") == committed, "`sentinelctl config compose compose/compose.yaml`"


def test_the_text_is_yaml_of_the_document() -> None:
    given = load(None, {"SENTINEL_STREAM_KIND": "sqlite", "SENTINEL_INFERENCE_REPLICAS": "2"})
    read = yaml.safe_load(render(given))
    del read["x-every"]
    assert read == json.loads(json.dumps(document(given)))


def test_every_file_that_the_committed_one_mounts_lies_where_it_says() -> None:
    volumes = [one for service in document(load(None, {}), ROOT / "compose")["services"].values()
               for one in service.get("volumes", ())]  # fmt: skip
    files = [one.partition(":")[0] for one in volumes if one.startswith(".")]
    assert len(files) == 6
    assert all((ROOT / "compose" / file).is_file() for file in files)


def test_of_a_secret_it_has_the_variable_alone_and_asks_for_it() -> None:
    assert "hidden" not in render(load(None, HIDDEN))
    env = services(**HIDDEN)["webhook"]["environment"]
    assert env["SENTINEL_WEBHOOK_SECRET"] == "${SENTINEL_WEBHOOK_SECRET:?}"
    assert services()["publisher"]["environment"]["SENTINEL_GITHUB_TOKEN"] == "${SENTINEL_GITHUB_TOKEN:?}"
    app = services(SENTINEL_GITHUB_APP_ID="7")["publisher"]["environment"]
    assert app["SENTINEL_GITHUB_APP_KEY"] == "${SENTINEL_GITHUB_APP_KEY:?}"
    assert "SENTINEL_GITHUB_TOKEN" not in app


def test_a_dollar_of_a_setting_is_no_variable_of_composes() -> None:
    given = services(SENTINEL_EXTRACTOR_IGNORE="$HOME/*")
    assert given["extractor"]["environment"]["SENTINEL_EXTRACTOR_IGNORE"] == "$$HOME/*"


def test_what_may_have_replicas_takes_free_ports_and_what_runs_once_its_own() -> None:
    given = services(SENTINEL_EXTRACTOR_REPLICAS="3")
    assert given["extractor"]["scale"] == 3
    assert given["extractor"]["ports"] == ["127.0.0.1::9104"]
    assert given["webhook"]["ports"] == ["127.0.0.1:8000:8000"]


def test_it_follows_what_is_switched_off_or_somebody_elses(tmp_path: Path) -> None:
    given = services(
        SENTINEL_STREAM_BOOTSTRAP="broker.example:9092", SENTINEL_CLAIMS_URL="rediss://cache.example",
        SENTINEL_PROMETHEUS_ENABLED="false", SENTINEL_AUTOSCALER_ENABLED="true",
    )  # fmt: skip
    assert list(given) == ["inference", "extractor", "publisher", "webhook"]
    assert "depends_on" not in given["webhook"]


def test_sqlite_is_a_folder_of_this_machine_as_it_is_for_up(tmp_path: Path) -> None:
    given = load(None, {"SENTINEL_STREAM_KIND": "sqlite", "SENTINEL_PROJECT_STATE_DIR": str(tmp_path)})
    (volume,) = (one for name, one in document(given)["volumes"].items() if name == "log")
    assert volume["driver_opts"] == {"type": "none", "o": "bind", "device": str(tmp_path / "data")}
    assert document(given)["services"]["webhook"]["volumes"] == ["log:/data/log"]
