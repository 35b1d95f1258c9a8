from collections.abc import Callable
from pathlib import Path

import pytest

from services.settings import Settings, load

from .conftest import Ran

Ctl = Callable[..., Ran]


def test_init_writes_a_file_that_validates_and_changes_nothing(ctl: Ctl, tmp_path: Path) -> None:
    assert "wrote sentinel.toml" in ctl("config", "init").err
    assert load(tmp_path / "sentinel.toml", {}) == Settings()
    assert ctl("config", "validate").err == "sentinel.toml and the environment are valid\n"


def test_init_keeps_a_file_that_is_there_unless_forced(ctl: Ctl, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[webhook]\nport = 8001\n")
    refused = ctl("config", "init", "mine.toml")
    assert (refused.code, path.read_text()) == (2, "[webhook]\nport = 8001\n")
    assert "--force" in refused.err
    assert ctl("config", "init", "mine.toml", "--force", "--json").document == {"version": 1, "path": "mine.toml"}
    assert load(path, {}) == Settings()


def test_init_into_a_folder_that_is_not_there_is_a_usage_error(ctl: Ctl) -> None:
    ran = ctl("config", "init", "nowhere/sentinel.toml")
    assert ran.code == 2
    assert "cannot write nowhere/sentinel.toml: No such file" in ran.err


def test_show_says_what_is_in_force_and_where_it_comes_from(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "sentinel.toml").write_text("[webhook]\nport = 8001\n")
    rows = [line.split() for line in ctl("config", "show", SENTINEL_STREAM_PARTITIONS="6").out.splitlines()]
    assert ["webhook.port", "8001", "file"] in rows
    assert ["stream.partitions", "6", "environment"] in rows
    assert ["webhook.bind", "127.0.0.1", "default"] in rows


def test_a_value_longer_than_a_terminal_stays_on_its_line_when_piped(ctl: Ctl) -> None:
    target = ",".join(f"host-{number}:50051" for number in range(20))
    assert any(target in line for line in ctl("config", "show", SENTINEL_INFERENCE_TARGET=target).out.splitlines())


def test_show_never_prints_a_secret(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text("hidden-key")
    environ = {
        "SENTINEL_WEBHOOK_SECRET": "hidden-one", "SENTINEL_WEBHOOK_SECRET_PREVIOUS": "hidden-two",
        "SENTINEL_GITHUB_TOKEN": "hidden-three", "SENTINEL_GITHUB_APP_KEY_FILE": str(tmp_path / "key.pem"),
    }  # fmt: skip
    for words in (["config", "show"], ["config", "show", "--json"], ["config", "validate", "--json"]):
        ran = ctl(*words, **environ)
        assert ran.code == 0
        assert "hidden" not in ran.out + ran.err
    shown = ctl("--json", "config", "show", **environ).document["settings"]
    assert shown["github"]["token"] == {"value": "set", "source": "environment"}
    assert ctl("--json", "config", "show").document["settings"]["github"]["token"]["value"] == "not set"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[webhok]\nport = 1\n", "webhok is no section, but webhook is"),
        ("[extractor]\nmax_hunk = 1\n", "extractor.max_hunk is no setting, but max_hunks is"),
        ("[extractor]\nreplicas = 0\n", "extractor.replicas: Input should be greater than or equal to 1"),
        ("[extractor]\nignore = 'a'\n", "extractor.ignore: should be a list of strings"),
        ("[publisher]\nmin_severity = 'blocker'\n", "publisher.min_severity: Input should be 'nit'"),
        ("[webhook]\nsecret = 'hidden'\n", "webhook.secret is a secret and stands in the settings file"),
        ("webhook = 3\n", "webhook stands outside of any section"),
        ("[webhook\n", "is not readable TOML"),
    ],
)
def test_validate_names_the_fault(ctl: Ctl, tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "sentinel.toml").write_text(text)
    ran = ctl("config", "validate")
    assert ran.code == 2
    assert fault in ran.err
    assert "hidden" not in ran.err


def test_validate_names_every_fault_at_once(ctl: Ctl, tmp_path: Path) -> None:
    (tmp_path / "sentinel.toml").write_text("[stream]\npartitions = 0\nlease_s = 0\n")
    ran = ctl("config", "validate", SENTINEL_WEBHOOK_PRT="1")
    assert all(key in ran.err for key in ("stream.partitions", "stream.lease_s", "webhook.prt"))


def test_validate_warns_of_a_variable_that_nothing_reads(ctl: Ctl) -> None:
    environ = {"SENTINEL_WEBHOK_SECRET": "hidden", "SENTINEL_FLAVOUR": "hidden", "SENTINEL_GITHUB_TOKEN": "hidden"}
    assert ctl("config", "validate", "--json", **environ).document["warnings"] == [
        "SENTINEL_FLAVOUR is no setting",
        "SENTINEL_WEBHOK_SECRET is no setting; is SENTINEL_WEBHOOK_SECRET meant?",
    ]
    assert "warning: SENTINEL_FLAVOUR is no setting\n" in ctl("config", "validate", **environ).err


def test_compose_is_written_to_a_file_or_to_standard_output(ctl: Ctl, tmp_path: Path) -> None:
    text = ctl("config", "compose").out
    assert text.startswith("# Written by `sentinelctl config compose")
    assert "wrote here.yaml" in ctl("config", "compose", "here.yaml").err
    assert (tmp_path / "here.yaml").read_text().splitlines()[:5] == text.splitlines()[:5]
    document = ctl("config", "compose", "--json").document
    assert (document["version"], document["path"]) == (1, None)
    assert "webhook" in document["compose"]["services"]
    refused = ctl("config", "compose", "nowhere/here.yaml")
    assert refused.code == 2
    assert "cannot write nowhere/here.yaml: No such file" in refused.err
