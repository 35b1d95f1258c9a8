"""sentinelctl triage and model eval-triage with weights of a short training, over files and over a fakehub."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from model.engine import WEIGHTS
from sentinelctl.fakehub.server import Running
from tests.model.made import still
from tests.model.triage import made
from tests.sentinelctl.test_reviews_commands import BODIES, hub, run

pytest.importorskip("torch")
pytestmark = pytest.mark.train

Run = Callable[..., tuple[int, str, str]]
__all__ = ["hub", "run"]

SAID = ("this will crash on null", "the loop here is incorrect", "please could be simpler", "nit: indent")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model.triage.train import train

    folder = tmp_path_factory.mktemp("triage")
    elsewhere = made.comments(60, "made/elsewhere")
    train(made.RECIPE, made.KNOWN, folder, lambda _: None, clock=still, is_judged=False, elsewhere=elsewhere)
    return folder


@pytest.fixture
def file(tmp_path: Path) -> Path:
    known = [made.comment(body, number=number) for number, body in enumerate(reversed(SAID), 1)]
    return made.write(tmp_path / "comments.jsonl", known)


def test_comments_are_counted_and_the_gravest_shown_first(file: Path, weights: Path, run: Run) -> None:
    code, shown, _ = run("triage", "--weights", weights, "--file", file, "--json")
    assert code == 0
    document = json.loads(shown)
    assert document["comments"] == 4
    assert {one: sum(row.values()) for one, row in document["counts"].items()} == {
        "nit": 1,
        "suggestion": 1,
        "bug": 1,
        "critical": 1,
    }
    assert [each["body"] for each in document["gravest"]] == list(SAID)
    assert document["gravest"][0]["place"] == "made/up#1 src/a.py:4"
    assert document["heldout"]["1 other repositories"]["rule"]["accuracy"] == 1.0


def test_people_read_a_table_the_comments_and_what_it_means(file: Path, weights: Path, run: Run) -> None:
    _, shown, err = run("triage", "--weights", weights, "--file", file, "--limit", 2)
    assert shown.splitlines()[0].split() == ["critical", "bug", "suggestion", "nit", "all"]
    assert "critical" in shown.splitlines()[-5]
    assert SAID[0] in shown
    assert SAID[2] not in shown
    assert "4 review comments of comments.jsonl. Held out (1 other repositories): accuracy " in err
    assert "so the rule itself scores 1.00 by construction" in err


def test_a_comment_cannot_steer_the_terminal(tmp_path: Path, weights: Path, run: Run) -> None:
    body = "crash \x1b[2J [bold]not ours[/] \u202eturned"
    _, shown, _ = run("triage", "--weights", weights, "--file", made.write(tmp_path / "a.jsonl", [made.comment(body)]))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"crash \x1b[2J [bold]not ours[/] \u202eturned" in shown


def test_the_table_is_drawn(file: Path, tmp_path: Path, weights: Path, run: Run) -> None:
    _, _, err = run("triage", "--weights", weights, "--file", file, "--picture", tmp_path / "a.svg")
    assert f"wrote {tmp_path / 'a.svg'}" in err
    assert "4 review comments of comments.jsonl" in (tmp_path / "a.svg").read_text("utf-8")


def test_a_repository_s_comments_are_fetched_and_sorted(hub: Running, tmp_path: Path, weights: Path, run: Run) -> None:
    code, shown, _ = run("triage", "--weights", weights, "--repo", "local/sample", "--json")
    assert code == 0
    document = json.loads(shown)
    assert {each["body"] for each in document["gravest"]} == {*BODIES[:2], "Ask user@example.org, it could be shorter."}
    assert not list(Path.cwd().glob("local+sample*"))
    run("triage", "--weights", weights, "--repo", "local/sample", "--out", tmp_path / "kept")
    assert (tmp_path / "kept" / "local+sample.jsonl").exists()


def test_an_empty_file_is_an_empty_table(tmp_path: Path, weights: Path, run: Run) -> None:
    (tmp_path / "a.jsonl").write_text("")
    code, shown, err = run("triage", "--weights", weights, "--file", tmp_path / "a.jsonl")
    assert code == 0
    assert shown.splitlines()[1].split() == ["all", "0", "0", "0", "0", "0"]
    assert "0 review comments" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ((), 2, "give --repo OWNER/NAME or --file FILE"),
        (("--repo", "a/b", "--file", "x"), 2, "give --repo OWNER/NAME or --file FILE"),
        (("--file", "none.jsonl", "--weights", WEIGHTS), 1, "where triage reads 'triage'"),
        (
            ("--file", "none.jsonl", "--weights", "nowhere"),
            1,
            "no triage weights in nowhere; `sentinelctl model train-triage",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(run: Run, words: tuple[object, ...], code: int, says: str) -> None:
    found, _, err = run("triage", *words)
    assert found == code
    assert says in err


def test_weights_are_judged_on_any_comments(file: Path, weights: Path, run: Run) -> None:
    code, shown, _ = run("model", "eval-triage", "--weights", weights, "--data", file, "--json")
    assert code == 0
    (found,) = json.loads(shown)["heldout"].values()
    assert found["comments"] == 4
    assert found["model"]["balanced_accuracy"] == found["rule"]["balanced_accuracy"] == 1.0
    _, shown, err = run("model", "eval-triage", "--weights", weights, "--data", file)
    assert shown.splitlines()[0].split() == ["model", "majority", "the", "rule", "itself"]
    assert "taught by comments of made/other, made/up; the labels are what a keyword rule says" in err
    file.write_text("")
    code, _, err = run("model", "eval-triage", "--weights", weights, "--data", file)
    assert code == 1
    assert "holds no review comments" in err


def test_a_training_by_command_prints_the_model_beside_what_knows_less(tmp_path: Path, run: Run) -> None:
    recipe = tmp_path / "recipe.toml"
    shape = "vocab_size = 512\nwidth = 16\nlayers = 1\nheads = 2\nhidden = 32\nmax_tokens = 256"
    recipe.write_text(f"[encoder]\n{shape}\n[train]\nmax_steps = 3\n")
    data = made.write(tmp_path / "comments.jsonl", made.KNOWN[::4])
    words = ("model", "train-triage", "--data", data, "--recipe", recipe, "--out", tmp_path / "weights")
    code, shown, err = run(*words)
    assert code == 0
    assert shown.splitlines()[0].split() == ["model", "linear", "n-grams", "majority", "the", "rule", "itself"]
    assert "later in time, 15 comments" in shown
    assert "scores 1.00 by construction" in err
    code, _, err = run(*words, "--recipe", tmp_path / "none.toml")
    assert code == 2
    assert "none.toml" in err
