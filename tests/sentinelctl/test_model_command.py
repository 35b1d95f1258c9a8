import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.engine import read_manifest
from model.labels import load_concepts
from sentinelctl.cli import main
from tests.model import made
from tests.model.test_engine import edit_manifest, write_weights

Run = Callable[..., tuple[int, str, str]]
FIGURES = (
    "line_ap", "any_ap", "any_auc", "five_way_macro_f1", "bug_recall_at_p50", "critical_recall_at_p50",
    "severity_accuracy", "severity_balanced_accuracy", "category_macro_f1", "concept_macro_f1", "ece",
)  # fmt: skip
SUBJECTS = ("model", "linear", "size_only", "majority")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """(exit code, stdout, stderr) of `sentinelctl model` with these words."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["model", *map(str, words)])
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


def heldout() -> dict[str, Any]:
    """A figure of its own for each subject and row."""
    found: dict[str, Any] = {"repositories": ["a/a", "b/b", "c/c"]}
    for at, subject in enumerate(SUBJECTS):
        found[subject] = {name: round((at * 20 + row + 1) / 100, 2) for row, name in enumerate(FIGURES)}
        found[subject] |= {"lines": 1234, "unseen_text": {"line_ap": 0.9 + at / 1000}}
    found["model"] |= {"shown": {"any": {"lines": 77, "precision": 0.64, "recall": 0.21}}, "line_ap_95": [0.111, 0.222]}
    return found


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    concepts = [concept.id for concept in load_concepts() if not concept.is_rule]
    table = np.zeros((len(made.tokenizer()), 1 + len(concepts)), np.float32)
    write_weights(
        folder, made.tokenizer().model, table, concepts,
        config={"layers": 3, "width": 128, "vocab_size": 8192},
        data={"repositories": 40, "lines": 54321, "lines_with_a_finding": 4321, "digest": "d" * 64,
              "lines_of_language": {"python": 50000, "shell": 4321}},
        training={"recipe": "small", "minutes": 29.5, "seed": 7, "machine": "Linux x86_64, CPU"},
    )  # fmt: skip
    return folder


def test_info_says_what_the_weights_are_and_what_taught_them(weights: Path, run: Run) -> None:
    code, out, err = run("info", "--weights", weights)
    assert code == 0
    for words in (
        "tiny 0, digest 000000000000",
        "3 layers × 128, 8,192 pieces",
        f"{sum(not concept.is_rule for concept in load_concepts())} concepts in python",
        "54,321 added lines of 40 repositories (python 50,000, shell 4,321),",
        "4,321 of them with an analyzer's finding; data dddddddddddd",
        "recipe small, 29.5 minutes, seed 7,",
    ):
        assert words in out
    assert "no held-out figures yet; `sentinelctl model eval --data DIR --write` makes them" in err


def test_info_puts_every_figure_beside_that_of_each_baseline(weights: Path, run: Run) -> None:
    found = heldout()
    edit_manifest(weights, heldout=found)
    code, out, _ = run("info", "--weights", weights)
    assert code == 0
    assert "held out: 1,234 lines of 3 repositories never trained on" in out
    told = [line.split() for line in out.splitlines()]
    rows = [row[:-2] if row[-1:] in (["met"], ["missed"]) else row for row in told]  # what was asked stands last
    assert ["0.890", "missed"] in [row[-2:] for row in told]
    for name in FIGURES:
        assert sum(row[-4:] == [f"{found[subject][name]:.3f}" for subject in SUBJECTS] for row in rows) == 1
    assert ["0.900", "0.901", "0.902", "0.903"] in [row[-4:] for row in rows]
    assert "77 lines, 64% right, 21% of all found; line AP 0.111–0.222" in out
    assert "not a reviewer's judgement" in out


def test_a_figure_that_could_not_be_told_is_a_dash(weights: Path, run: Run) -> None:
    found = heldout()
    found["majority"]["unseen_text"]["line_ap"] = None
    found["model"]["shown"]["any"] = {"lines": 0, "precision": None, "recall": 0.0}
    edit_manifest(weights, heldout=found)
    code, out, _ = run("info", "--weights", weights)
    assert code == 0
    assert ["0.900", "0.901", "0.902", "–"] in [line.split()[-4:] for line in out.splitlines()]
    assert "0 lines, – right, 0% of all found" in out


def test_info_under_json_is_the_manifest(weights: Path, run: Run) -> None:
    code, out, err = run("info", "--json", "--weights", weights)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["version"], found["heldout"]) == (1, {})
    assert found["manifest"] == json.loads((weights / "manifest.json").read_text())
    assert found["load_ms"]["onnx"] > 0
    assert found["load_ms"]["torchscript"] is None


def test_the_held_out_figures_under_json_are_flat_with_baselines_and_intervals_beside_them(
    weights: Path, run: Run
) -> None:
    edit_manifest(weights, heldout=heldout())
    found = json.loads(run("info", "--json", "--weights", weights)[1])["heldout"]
    assert {name: found[name] for name in FIGURES} == {name: heldout()["model"][name] for name in FIGURES}
    assert set(found["baselines"]) == {"linear", "size_only", "majority"}
    assert found["intervals"] == {"line_ap": [0.111, 0.222]}


def test_info_says_how_long_each_engine_takes_to_load(weights: Path, run: Run) -> None:
    (line,) = [line for line in run("info", "--weights", weights)[1].splitlines() if line.startswith("loads in")]
    assert re.fullmatch(r"loads in\s+\d+ ms as onnx", line)
    edit_manifest(weights, files={"tokenizer.model": "0" * 64})
    assert "neither has a file here that can be loaded" in run("info", "--weights", weights)[1]


DIFF = """\
--- a/app/store.py
+++ b/app/store.py
@@ -1,1 +1,4 @@
 import os
+def load(path, cache=[]):
+    return eval(open(path).read())\x20
+\tx = None == path
"""


@pytest.fixture
def diff(tmp_path: Path) -> Path:
    path = tmp_path / "change.diff"
    path.write_text(DIFF)
    return path


def test_a_diff_is_answered_line_by_line_with_what_is_shown_and_what_is_not(diff: Path, run: Run) -> None:
    code, out, err = run("infer", diff)
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert ["app/store.py:3", "100%", "yes", "nit", "trailing_whitespace"] in rows
    assert {row[2] for row in rows[1:]} <= {"yes", "no"}
    assert "on 3 added lines" in err
    code, out, err = run("infer", diff, "--json")
    found = json.loads(out)
    assert (code, found["digest"]) == (0, read_manifest().digest)
    assert [each["line"] for each in found["findings"]] == [int(row[0].partition(":")[2]) for row in rows[1:]]
    assert all(each["confidence"] >= 0.1 for each in found["findings"])


def test_a_diff_can_come_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(DIFF.encode())))
    assert "trailing_whitespace" in run("infer", "-")[1]


def test_serving_and_training_agree_on_a_diff(diff: Path, run: Run) -> None:
    code, out, _ = run("serve-check", diff)
    assert code == 0
    assert out.startswith("3 lines and ")
    assert "0 rows and 0 findings differ" in out
    found = json.loads(run("serve-check", diff, "--json")[1])
    assert (found["is_none"], found["lines"], found["hunks"]) == (True, 3, 1)


def test_serving_and_training_are_compared_on_mined_hunks(tmp_path: Path, run: Run) -> None:
    made.write_all(tmp_path / "data", hunks=3)
    found = json.loads(run("serve-check", "--data", tmp_path / "data", "--limit", "4", "--json")[1])
    assert (found["hunks"], found["lines"], found["is_none"]) == (4, 16, True)


def test_weights_whose_config_and_rows_part_are_found_out(weights: Path, diff: Path, run: Run) -> None:
    edit_manifest(weights, config={"max_tokens": 40})
    assert run("serve-check", diff, "--weights", weights)[0] == 0  # both sides read the same manifest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["serve-check"], "serve-check wants hunks"),
        (["serve-check", "x.diff", "--data", "none"], "serve-check wants hunks"),
        (["serve-check", "--data", "none"], "none holds no mined data"),
        (["infer", "none.diff"], "none.diff"),
        (["infer", "broken.diff"], "is no diff that can be read"),
    ],
)
def test_what_cannot_be_read_is_refused(
    words: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.diff").write_text("--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,9 @@\n+x\n")
    code, _, err = run(*words)
    assert code == 2
    assert message in err


def test_info_knows_the_shipped_weights(run: Run) -> None:
    code, out, _ = run("info", "--json")
    assert code == 0
    manifest = json.loads(out)["manifest"]
    assert set(manifest["concepts"]) <= {concept.id for concept in load_concepts()}
    assert manifest["data"]["lines"] > manifest["data"]["lines_with_a_finding"] > 0


def test_a_folder_without_weights_is_named(tmp_path: Path, run: Run) -> None:
    code, _, err = run("info", "--weights", tmp_path)
    assert code == 1
    assert f"no model at {tmp_path / 'manifest.json'}" in err


def test_without_torch_the_way_to_get_it_is_named() -> None:
    program = "import sys; sys.modules['torch'] = None\nfrom sentinelctl.cli import main\nmain(sys.argv[1:])\n"
    adapt = ["adapt", "--repo", ".", "--out", "out"]
    for words in (["train", "--data", "data", "--out", "out"], ["eval", "--data", "data"], ["export"], adapt):
        done = subprocess.run(
            [sys.executable, "-c", program, "model", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3
        assert "need torch, which is not installed" in done.stderr
        assert "pip install 'sentinel-review[train]'" in done.stderr


def test_the_catalog_is_printed_by_category_and_of_one_language_when_asked(run: Run) -> None:
    code, out, err = run("concepts")
    assert code == 0
    rows = [line.split() for line in out.splitlines()[1:]]
    assert sorted(row[2] for row in rows) == sorted(concept.id for concept in load_concepts())
    assert f"{len(load_concepts())} concepts" in err
    categories = [row[0] for row in rows]
    assert len(set(categories)) == 12
    assert categories == sorted(categories, key=categories.index)
    code, out, err = run("concepts", "--language", "go")
    assert [line.split()[2] for line in out.splitlines() if "receiver_name" in line] == ["receiver_name"]
    assert "mutable_default" not in out
    assert f"{len(out.splitlines()) - 1} concepts" in err


def test_the_catalog_under_json_has_every_text(run: Run) -> None:
    code, out, err = run("concepts", "--language", "shell", "--json")
    assert (code, err) == (0, "")
    found = {each["concept"]: each for each in json.loads(out)["concepts"]}
    spoken = [concept for concept in load_concepts() if concept.speaks("shell")]
    assert {name: each["text"] for name, each in found.items()} == {concept.id: concept.say() for concept in spoken}
    assert found["unquoted_variable"]["teachers"] == ["shellcheck:SC2086"]
    assert found["unquoted_variable"]["slots"] == ["variable"]


def test_the_texts_are_shown_when_more_is_asked_for(run: Run) -> None:
    text = next(concept.say() for concept in load_concepts() if concept.id == "bare_except")
    assert text not in run("concepts")[1]
    assert text in run("concepts", "-v")[1]


def test_a_language_that_no_concept_is_asked_of_is_refused_with_those_there_are(run: Run) -> None:
    code, _, err = run("concepts", "--language", "cobol")
    assert code == 2
    assert "no concept is asked of 'cobol'" in err
    assert "go, java, javascript, python" in err


@pytest.fixture(scope="module")
def torch() -> None:
    pytest.importorskip("torch")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_all(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "brief.toml"
    path.write_text(
        "[encoder]\nvocab_size = 512\nwidth = 32\nlayers = 1\nheads = 2\nhidden = 64\nbigrams = 512\n"
        "[train]\nmax_steps = 60\nbatch_rows = 64\n"
    )
    return path


@pytest.mark.train
@pytest.mark.usefixtures("torch")
def test_mined_data_becomes_weights_figures_and_a_file_for_each_engine(
    data: Path, recipe: Path, tmp_path: Path, run: Run
) -> None:
    """train, eval, info and export, one after the other, as a user runs them."""
    from model.engine import load_engine

    weights = tmp_path / "weights"
    code, _, err = run("train", "--data", data, "--out", weights, "--recipe", recipe, "--run", tmp_path / "run")
    assert code == 0
    assert " lines of 6 repositories, " in err
    assert f"`sentinelctl model eval --data {data} --weights {weights} --write` judges them" in err
    assert (tmp_path / "run" / "loss.svg").read_text().startswith("<svg")
    code, _, err = run("train", "--data", data, "--out", tmp_path / "more", "--recipe", recipe, "--from", weights)
    assert code == 0
    assert f"begins from {weights}: 2 of 2 concepts are known there" in err
    first, second = (json.loads((each / "manifest.json").read_text()) for each in (weights, tmp_path / "more"))
    assert second["training"]["begun_from"]["digest"] == first["digest"]
    code, out, _ = run("info", "--weights", tmp_path / "more")
    assert f"after {first['training']['minutes']} minutes on {first['data']['lines']:,} lines" in out

    words = ("eval", "--data", data, "--weights", weights, "--recipe", recipe)
    code, out, err = run(*words, "--write", "--json", "--report", tmp_path / "report")
    found = json.loads(out)["heldout"]
    assert code == 0
    assert f"wrote {tmp_path / 'report' / 'report.html'}" in err
    assert f"{found['model']['line_ap']:.3f}" in (tmp_path / "report" / "report.html").read_text()
    assert json.loads(out)["curves"]["classes"]["severity"] == ["none", "nit", "suggestion", "bug", "critical"]
    assert found["model"]["line_ap"] > found["majority"]["line_ap"]

    code, out, _ = run(*words)
    assert "severity of each line, end to end: truth by row, the model's answer by column" in out
    severity = [line.split() for line in out.splitlines()]
    assert ["", "none", "nit", "suggestion", "bug", "critical"][1:] in severity
    assert (
        sum(int(each.replace(",", "")) for row in severity if row[:1] == ["bug"] for each in row[1:])
        == (found["model"]["bugs"])
    )

    code, out, _ = run("info", "--weights", weights, "--json")
    manifest = json.loads(out)["manifest"]
    assert manifest["heldout"] == found
    assert manifest["training"]["recipe"] == "brief"

    code, _, err = run("export", "--weights", weights, "--engine", "torchscript")
    assert code == 0
    assert f"wrote {weights / 'encoder.torchscript.pt'}" in err
    assert "the same label 100.0%, largest difference of a probability 0.0000" in err
    assert re.search(r"loads in +\d+ ms as onnx, \d+ ms as torchscript", run("info", "--weights", weights)[1])
    assert load_engine("torchscript", weights, threads=1).info.digest != manifest["digest"]
    assert json.loads((weights / "manifest.json").read_text())["heldout"] == found

    graph = (weights / "encoder.int8.onnx").read_bytes()
    (weights / "encoder.int8.onnx").unlink()
    code, out, _ = run("export", "--weights", weights, "--json")
    exported = json.loads(out)
    assert exported["path"] == str(weights / "encoder.int8.onnx")
    assert exported["parity"]["rows"] > 300
    assert exported["parity"]["same_label"] > 0.9
    assert (weights / "encoder.int8.onnx").read_bytes() == graph


@pytest.mark.train
@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize(
    ("words", "code", "messages"),
    [
        (["train", "--recipe", "huge"], 2, ["no recipe at", "smoke; or name a .toml file"]),
        (["train", "--recipe", "odd.toml"], 2, ["odd.toml: TrainConfig has no epochs; it has "]),
        (["train", "--data", "none"], 2, ["none holds no mined data", "sentinelctl data mine-git"]),
        (["eval", "--data", "none"], 2, ["none holds no mined data"]),
        (["eval", "--weights", "none"], 1, ["no manifest.json in none"]),
        (["export", "--weights", "none"], 1, ["no manifest.json in none; train with `sentinelctl model train`"]),
        (["export", "--engine", "tensorflow"], 2, ["--engine"]),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    words: list[str],
    code: int,
    messages: list[str],
    data: Path,
    tmp_path: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.toml").write_text("[train]\nepochs = 3\n")
    needed = {"train": {"--data": data, "--out": tmp_path / "out"}, "eval": {"--data": data}}.get(words[0], {})
    missing = [word for option, value in needed.items() if option not in words for word in (option, value)]
    found, _, err = run(*words, *missing)
    assert found == code
    for message in messages:
        assert message in err
    assert not (tmp_path / "out").exists()


@pytest.mark.train
@pytest.mark.usefixtures("torch")
def test_data_without_a_repository_to_train_on_is_named(tmp_path: Path, run: Run) -> None:
    (repository,) = made.named("test", 1)
    made.write(tmp_path / "data", repository, [made.record(repository, ("add", "x = 1"))])
    code, _, err = run("train", "--data", tmp_path / "data", "--out", tmp_path / "out", "--recipe", "smoke")
    assert code == 1
    assert "no line to train on; `sentinelctl data stats` shows the splits" in err


@pytest.mark.train
@pytest.mark.usefixtures("torch")
def test_weights_whose_files_were_swapped_are_refused(data: Path, weights: Path, run: Run) -> None:
    (weights / "encoder.safetensors").write_bytes(b"of another training")
    edit_manifest(weights, files={"encoder.safetensors": "0" * 64})
    for words in (["export"], ["eval", "--data", data]):
        code, _, err = run(*words, "--weights", weights)
        assert code == 1
        assert "encoder.safetensors is not the file of this manifest: expected sha256 0000" in err


def test_every_command_in_the_model_s_readme_has_the_options_it_is_given(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = (Path(__file__).parents[2] / "model" / "README.md").read_text("utf-8")
    commands = re.findall(r"^sentinelctl ([a-z]+) ([a-z-]+)([^#\n]*)", text, re.MULTILINE)
    assert {f"{group} {name}" for group, name, _ in commands} >= {"data mine-git", "model train", "model eval"}
    for group, name, rest in commands:
        with pytest.raises(SystemExit):
            main([group, name, "--help"])
        shown = capsys.readouterr().out
        assert [option for option in re.findall(r"--[a-z]+", rest) if option not in shown.split()] == [], name


def adapted() -> dict[str, Any]:
    part = {"commits": 5, "lines": 1500, "findings": 70}
    figures = {
        "before": {"line_ap": [0.5, 0.4, 0.6], "any_ap": [0.7, 0.6, 0.8]},
        "after": {"line_ap": [0.625, 0.5, 0.7], "any_ap": [0.75, 0.6, 0.8]},
        "difference": {"line_ap": [0.125, 0.05, 0.2], "any_ap": [0.05, -0.01, 0.1]},
    }
    for side in figures.values():
        side |= {"precision": [None, None, None], "recall": [0.25, 0.125, 0.5]}
    return {
        "repository": "octo/hello", "head": "a" * 40, "from": {"name": "tiny", "version": "0", "digest": "b" * 64},
        "dates": {"taught_until": "2026-01-02", "judged_from": "2026-02-03", "judged_until": "2026-03-04"},
        "taught": part, "held_back": part | {"lines": 300}, "judged": part | {"lines": 400}, "fixes": part,
        "dismissed": {
            "given": 9, "taught": 5, "too_new": 3, "not_of_these_weights": 1, "shown_before": 4, "shown_after": 0
        },
        "figures": figures | {"shown": [12, 34]},
    }  # fmt: skip


def test_info_shows_both_sides_of_adapted_weights(weights: Path, run: Run) -> None:
    edit_manifest(weights, adapted=adapted())
    code, out, _ = run("info", "--weights", weights)
    assert code == 0
    for words in (
        "octo/hello at aaaaaaaaaaaa, from tiny bbbbbbbbbbbb",
        "1,500 added lines of 5 commits, 70 with a finding, before 2026-01-02,",
        "5 dismissed findings (shown 4 before, 0 now), 3 are too new to teach, 1 are none of the model's",
        "on 400 added lines of 5 commits, 70 with a finding, from 2026-02-03 to 2026-03-04",
        "0.500 (0.400 to 0.600)  0.625 (0.500 to 0.700)  +0.125 (+0.050 to +0.200)",
        "– (– to –)",
        "shown: 12 lines before, 34 after",
    ):
        assert words in out
    assert json.loads(run("info", "--json", "--weights", weights)[1])["manifest"]["adapted"] == adapted()


@pytest.mark.train
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--repo", "nowhere"], 2, "nowhere is no git repository with a commit in it"),
        (["--repo", "repository", "--name", "hello"], 2, "--name hello is not OWNER/NAME"),
        (["--repo", "repository", "--dismissed", "none"], 1, "the dismissed findings none cannot be read"),
        (["--repo", "repository"], 1, "this history is too short to learn from: 0 lines with a finding before"),
    ],
)
def test_what_cannot_be_adapted_to_is_refused(
    words: list[str], code: int, message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    made.history(tmp_path / "repository", [(1_700_000_000, "add", {"a.py": "print(1)\n"})])
    found, _, err = run("adapt", *words, "--out", tmp_path / "out")
    assert (found, (tmp_path / "out").exists()) == (code, False)
    assert message in err
