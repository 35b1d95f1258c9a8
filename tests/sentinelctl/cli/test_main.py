from collections.abc import Callable
from pathlib import Path

import pytest

from sentinelctl import __version__
from sentinelctl.cli import COMMANDS, hoist

from .conftest import Ran

Ctl = Callable[..., Ran]


@pytest.mark.parametrize(
    ("typed", "taken"),
    [
        (["up", "--json"], ["--json", "up"]),
        (["--json", "up"], ["--json", "up"]),
        (["up", "--config", "a.toml", "--dry-run"], ["--config", "a.toml", "up", "--dry-run"]),
        (["up", "--config=a.toml"], ["--config=a.toml", "up"]),
        (["review", "--", "--json"], ["review", "--", "--json"]),
        (["up", "--config"], ["--config", "up"]),
        (["logs", "-v", "-f"], ["-v", "logs", "-f"]),
    ],
)
def test_the_options_of_every_command_go_before_and_after_its_name(typed: list[str], taken: list[str]) -> None:
    assert hoist(typed) == taken


@pytest.mark.parametrize(
    ("typed", "fault", "remedy"),
    [
        (["fly"], "No such command 'fly'", "`sentinelctl --help`"),
        (["up", "--timeout", "soon"], "'--timeout'", "up --help`"),
        (["scale"], "SERVICE=N", "scale --help`"),
        (["scale", "extractor=many"], "'extractor=many' is no SERVICE=N", "extractor=3"),
        (["scale", "cache=2"], "no service is named 'cache'", "inference, extractor, publisher, webhook"),
        (["up", "--only", "webhook,cache"], "no service is named 'cache'", "inference, extractor"),
        (["restart", "cache"], "no service is named 'cache'", "inference, extractor"),
        (["logs", "extractor-9"], "no service is named 'extractor-9'", "inference, extractor"),
        (["--runtime", "kubernetes", "status"], "--runtime", "--help`"),
        (["config", "validate", "--config", "none.toml"], "no settings file at none.toml", "config init none.toml"),
    ],
)
def test_words_that_make_no_sense_are_named_with_what_would(
    ctl: Ctl, typed: list[str], fault: str, remedy: str
) -> None:
    ran = ctl(*typed)
    assert (ran.code, ran.out) == (2, "")
    assert fault in ran.err
    assert remedy in ran.err
    error = ctl(*typed, "--json").document["error"]
    assert fault in error["message"]
    assert error["exit_code"] == 2


@pytest.mark.parametrize("words", [[], ["config"]])
def test_a_group_alone_shows_its_help(ctl: Ctl, words: list[str]) -> None:
    ran = ctl(*words)
    assert ran.code == 2
    assert ran.err.startswith("Usage: ")
    assert "error" not in ran.err


@pytest.mark.parametrize("name", [name for name, _ in COMMANDS])
def test_each_command_helps(ctl: Ctl, name: str) -> None:
    ran = ctl(name, "--help")
    assert ran.code == 0
    assert f"{name} [OPTIONS]" in ran.out


def test_commands_that_change_nothing_make_nothing(ctl: Ctl, tmp_path: Path) -> None:
    secrets = {"SENTINEL_WEBHOOK_SECRET": "s", "SENTINEL_GITHUB_TOKEN": "t"}
    ports = {f"SENTINEL_{name}_PORT": "0" for name in ("WEBHOOK", "INFERENCE")}
    ports |= {f"SENTINEL_{name}_METRICS_PORT": "0" for name in ("EXTRACTOR", "INFERENCE", "PUBLISHER")}
    ports |= {"SENTINEL_PROMETHEUS_PORT": "0"}
    for words, code in (
        (["status"], 0), (["logs"], 0), (["down"], 0), (["up", "--dry-run"], 100), (["restart", "--dry-run"], 0),
        (["scale", "extractor=2", "--dry-run"], 100), (["down", "--dry-run", "--volumes"], 0), (["doctor"], 0),
    ):  # fmt: skip
        assert ctl(*words, **secrets, **ports).code == code, words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["up"], ["status"], ["down"], ["scale", "extractor=2"], ["restart"]])
def test_a_state_folder_that_cannot_be_is_said(ctl: Ctl, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "file").write_text("")
    ran = ctl(*words, SENTINEL_PROJECT_STATE_DIR=str(tmp_path / "file/state"))
    assert ran.code == 3
    assert f"no state can be kept in {tmp_path}/file/state: {tmp_path}/file is no folder" in ran.err
    assert "project.state_dir" in ran.err


def test_a_plan_is_printed_with_its_causes_and_is_a_document_under_json(ctl: Ctl) -> None:
    environ = {"SENTINEL_INFERENCE_PORT": "0", "SENTINEL_INFERENCE_METRICS_PORT": "0"}
    ran = ctl("up", "--only", "inference", "--dry-run", **environ)
    assert "start    inference-1  none was running\n" in ran.err
    assert ctl("--json", "up", "--only", "inference", "--dry-run", **environ).document == {
        "version": 1,
        "runtime": "embedded",
        "is_dry_run": True,
        "operations": [{"operation": "start", "replica": "inference-1", "cause": "none was running"}],
    }


def test_the_version_is_told_and_nothing_else(ctl: Ctl) -> None:
    assert (ctl("--version").out, ctl("--version").err) == (f"sentinelctl {__version__}\n", "")
