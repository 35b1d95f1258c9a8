import json
import sys
from pathlib import Path

import pytest
import typer

from sentinelctl.bench.suite import MEASUREMENTS, Measurement, lacks, run_all
from sentinelctl.cli.bench import app


@pytest.mark.parametrize("measurement", MEASUREMENTS, ids=lambda one: one.name)
def test_every_command_of_the_suite_is_one(measurement: Measurement) -> None:
    """Its words are taken by the command's own parser, so that no measurement fails an hour into a run."""
    command = typer.main.get_command(app)
    words = measurement.command()
    while (names := getattr(command, "commands", None)) is not None:
        command = names[words.pop(0)]
    command.make_context(measurement.name, words)


def test_a_trial_is_shorter_and_otherwise_the_same() -> None:
    one = Measurement("a", "webhook --rate 5", 60)
    assert one.command() == ["webhook", "--rate", "5", "--duration", "60"]
    assert one.command(0.1) == ["webhook", "--rate", "5", "--duration", "6"]
    assert one.command(0.0001)[-1] == "1"
    assert Measurement("a", "ratio webhook").command(0.1) == ["ratio", "webhook"]


def test_names_are_the_files_and_so_are_unlike() -> None:
    assert len({one.name for one in MEASUREMENTS}) == len(MEASUREMENTS)


def python(folder: Path, body: str) -> str:
    """An interpreter that is none: it gets the words of the command, the file after --out last."""
    made = folder / "python"
    made.write_text(f"#!/bin/sh\nfor out; do :; done\n{body}\n")
    made.chmod(0o755)
    return str(made)


def test_each_result_is_a_file_and_what_cannot_be_had_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "executable", python(tmp_path, 'echo \'{"version": 1, "faults": ["x"]}\' > "$out"; exit 99')
    )
    told: dict[str, str] = {}
    chosen = [Measurement("good", "webhook", 60), Measurement("kafka", "webhook --log kafka", 60, "kafka")]
    is_whole = run_all(
        chosen,
        tmp_path / "out",
        kafka="",
        scale=1.0,
        globals_=[],
        tell=lambda one, said, _seconds: told.update({one.name: said}),
    )
    assert is_whole, "what is left out on purpose is no failure"
    assert told == {"good": "x", "kafka": "no Kafka was given (--kafka HOST:PORT)"}
    missing = json.loads((tmp_path / "out" / "kafka.json").read_text())
    assert (missing["kind"], missing["command"]) == (
        "missing",
        "sentinelctl bench webhook --log kafka --duration 60",
    )


def test_a_command_that_fails_is_told_in_its_own_words_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = '{"error": {"message": "the disk is full"}}'
    monkeypatch.setattr(sys, "executable", python(tmp_path, f"echo '{said}'; exit 1"))
    told: list[str] = []
    chosen = [Measurement("a", "webhook"), Measurement("b", "webhook")]
    tell = lambda _one, said, _seconds: told.append(said)  # noqa: E731
    assert not run_all(chosen, tmp_path / "out", kafka="", scale=1.0, globals_=[], tell=tell)
    assert told == ["the disk is full"] * 2


def test_a_broker_that_is_given_is_used() -> None:
    needs = Measurement("a", "webhook --log kafka", needs="kafka")
    assert lacks(needs, "")
    assert not lacks(needs, "127.0.0.1:9092")
