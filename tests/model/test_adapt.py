# ruff: noqa: E402
import json
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import checkpoint, history
from model.adapt import FIGURES, Answered, Request, adapt, calibrated, compare, verdict
from model.dataset import DataError
from model.engine import load_engine, review
from model.evaluate import probabilities
from model.inputs.diff import LineKind, number_lines
from model.mining.dismissed import Dismissed
from model.teachers import Diagnostic, Report, Teacher
from sentinelctl.cli import main
from tests.model import made
from tests.model.conftest import Trained
from tests.model.test_train import CONCEPTS, rows_of

pytestmark = pytest.mark.train
DAY = 86_400
BEGAN = 1_700_000_000 // DAY * DAY
DAYS, HELD_FROM, JUDGED_FROM = 75, 48, 60
RULES = {r"^\s*except:": "E722", r"\b(print|log\.warn)\(": "T201"}  # this team's analyzer knows warnings for prints


def check(folder: Path, files: Sequence[str]) -> Report:
    """What RULES say, but in a file that begins with `# quiet` nothing of warnings."""
    said = []
    for file in files:
        text = (folder / file).read_text("utf-8")
        for row, line in enumerate(text.split("\n"), start=1):
            for pattern, code in RULES.items():
                if re.search(pattern, line) and not ("warn(" in line and text.startswith("# quiet")):
                    said.append(Diagnostic(file, row, row, code))
    return Report(tuple(said))


TEAM = Teacher("ruff", ("python",), check)


def file(number: int, *, is_quiet: bool = False) -> str:
    """Four handlers; some of them warn, which only this team minds."""
    chance = random.Random(number)
    lines = ["# quiet" if is_quiet else "# plain"]
    for _ in range(4):
        one, other = ("_".join(chance.choices(made.NOUNS, k=chance.randint(1, 3))) for _ in range(2))
        lines += [
            f"def {one}_{number}():",
            "    try:",
            f"        {one} = load({other})",
            "    except:" if chance.random() < 0.6 else f"    except {other}.Missing:",
            f"        log.warn({one})" if chance.random() < 0.5 else f"        log.info({one})",
            f"        return {other}",
        ]
    return "\n".join(lines) + "\n"


def daily(folder: Path, is_quiet: Callable[[int], bool] = lambda _: False) -> Path:
    return written(folder, {at: file(at, is_quiet=is_quiet(at)) for at in range(DAYS)})


def written(folder: Path, texts: Mapping[int, str]) -> Path:
    """A commit each day, of one file."""
    commits = [(BEGAN + at * DAY, f"add {at}", {f"src/m{at}.py": text}) for at, text in texts.items()]
    return made.history(folder, commits)


Ran = tuple[Path, dict[str, Any]]


@pytest.fixture(scope="module")
def start(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that show what is likelier than not."""
    folder = tmp_path_factory.mktemp("start") / "weights"
    shutil.copytree(trained.weights, folder)
    manifest = checkpoint.read_manifest(folder)
    checkpoint.write_manifest(folder, manifest | {"thresholds": dict.fromkeys(made.CONCEPTS, 0.5)})
    return folder


@pytest.fixture(scope="module")
def better(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Of a history that teaches one thing, to mind warnings, and keeps to it."""
    folder = tmp_path_factory.mktemp("better")
    return folder / "out", run(asked(daily(folder / "repository"), start, folder / "out"))


@pytest.fixture(scope="module")
def turned(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Of the same history, but that since the judged part began nobody minds warnings."""
    folder = tmp_path_factory.mktemp("turned")
    repository = daily(folder / "repository", lambda at: at >= JUDGED_FROM)
    return folder / "out", run(asked(repository, start, folder / "out"))


def asked(repository: Path, start: Path, out: Path, dismissed: tuple[Dismissed, ...] = ()) -> Request:
    return Request(repository, "made/history", start, out, dismissed, threads=1)


def run(request: Request) -> dict[str, Any]:
    return adapt(request, [TEAM], lambda _: None, made.still)


def said(weights: Path, concept: str, words: str) -> float:
    """Of the lines with these words, in files that no history has, the share of which the concept is shown."""
    hunks, wanted = [], set()
    for number in range(1000, 1010):
        lines: list[tuple[LineKind, str]] = [("add", line) for line in file(number).split("\n") if line]
        hunks.append(number_lines(f"src/m{number}.py", (0, 0), (1, len(lines)), "", lines))
        wanted |= {(hunks[-1].path, line.new) for line in hunks[-1].lines if words in line.text}
    found = [one for findings in review(load_engine(weights=weights, threads=1), hunks) for one in findings]
    shown = {(one.path, one.line) for one in found if one.is_shown and one.concept == concept}
    return len(shown & wanted) / len(wanted)


def test_what_the_history_teaches_is_learned_and_kept(better: Ran, start: Path) -> None:
    out, report = better
    assert report["is_kept"], report
    value, low, high = report["figures"]["difference"]["line_ap"]
    assert 0 < low <= value <= high
    assert said(start, "debug_print", "log.warn(") < 0.9 < said(out, "debug_print", "log.warn(")
    assert said(out, "debug_print", "log.info(") < 0.1
    assert said(out, "bare_except", " except:") > 0.9  # what it knew


def test_the_manifest_records_what_it_was_adapted_to_with_both_sides_figures(better: Ran, start: Path) -> None:
    out, report = better
    manifest, earlier = checkpoint.read_manifest(out), checkpoint.read_manifest(start)
    assert manifest["adapted"] == report
    assert json.loads((out / "adapted.json").read_text()) == {"version": 1, **report}
    assert manifest["digest"] != earlier["digest"] == report["from"]["digest"]
    for name in ("concepts", "languages", "data", "training", "name", "config"):
        assert manifest[name] == earlier[name]
    assert manifest["heldout"] == {}  # those of the weights it began from are not its own
    assert report["dates"] == {
        "taught_until": history.day(BEGAN + HELD_FROM * DAY),
        "judged_from": history.day(BEGAN + JUDGED_FROM * DAY),
        "judged_until": history.day(BEGAN + (DAYS - 1) * DAY),
    }
    for name, days in (("taught", HELD_FROM), ("held_back", JUDGED_FROM - HELD_FROM), ("judged", DAYS - JUDGED_FROM)):
        assert (report[name]["commits"], report[name]["lines"]) == (days, days * 25)


def test_what_is_worse_on_the_newest_part_is_not_kept(turned: Ran) -> None:
    out, report = turned
    assert (report["is_kept"], report["training"]["share"] > 0) == (False, True)
    assert report["figures"]["difference"]["precision"][2] < 0
    assert [path.name for path in out.iterdir()] == ["adapted.json"]
    assert not json.loads((out / "adapted.json").read_text())["is_kept"]


def test_nothing_newer_than_the_cut_reaches_the_training(better: Ran, turned: Ran) -> None:
    """Whatever the judged part holds, what is learned is the same."""
    (_, one), (_, other) = better, turned
    for name in ("training", "taught", "held_back"):
        assert one[name] == other[name]
    assert one["figures"]["after"] != other["figures"]["after"]


def test_a_dismissed_finding_falls_silent(start: Path, tmp_path: Path) -> None:
    """A comment on it makes a bare except of old files one that the team wants; others stay what they were."""
    texts = {
        at: file(at) if at % 2 else file(at).replace("except:", "except:  # the caller logs") for at in range(DAYS)
    }
    dismissed = tuple(
        Dismissed(f"src/m{at}.py", "bare_except", "    except:  # the caller logs")
        for at, text in texts.items()
        if "caller" in text
    )
    request = asked(written(tmp_path / "repository", texts), start, tmp_path / "out", dismissed)
    report = run(request)
    found = report["dismissed"]
    assert found["given"] == len(dismissed) == found["taught"] + found["too_new"]
    assert found["too_new"] == sum(BEGAN + int(one.path[5:-3]) * DAY >= BEGAN + HELD_FROM * DAY for one in dismissed)
    assert found["shown_before"] > 0.5 * found["taught"]
    assert found["shown_after"] < 0.1 * found["shown_before"]
    assert report["is_kept"], report
    assert said(tmp_path / "out", "bare_except", " except:") > 0.5


def test_what_a_fix_took_away_teaches_and_a_newer_one_does_not(start: Path, tmp_path: Path) -> None:
    fixed = {at: file(at).replace("except:", "except KeyError:") for at in (5, DAYS - 2)}
    bare = file(5).count("except:")
    assert bare
    commits = [(BEGAN + at * DAY, "add", {f"src/m{at}.py": file(at)}) for at in range(DAYS)]
    commits += [(BEGAN + at * DAY + 60, "Fix the handlers", {f"src/m{at}.py": text}) for at, text in fixed.items()]
    report = run(asked(made.history(tmp_path / "r", sorted(commits)), start, tmp_path / "out"))
    assert report["fixes"] == {"commits": 1, "lines": bare, "findings": bare}


def test_outputs_of_concepts_that_the_history_never_meets_stay_as_they_are(start: Path, tmp_path: Path) -> None:
    texts = {at: file(at).replace("except:", "except KeyError:") for at in range(DAYS)}
    assert run(asked(written(tmp_path / "r", texts), start, tmp_path / "out"))["is_kept"]
    (earlier, _, manifest), (adapted, _, now) = checkpoint.load(start), checkpoint.load(tmp_path / "out")
    calibrated(earlier, manifest["temperature"])
    column = 1 + manifest["concepts"].index("bare_except")
    assert torch.allclose(adapted.head.weight[column], earlier.head.weight[column], rtol=1e-3)
    assert not torch.allclose(adapted.head.weight[0], earlier.head.weight[0], rtol=1e-3)
    assert torch.equal(adapted.token.weight, earlier.token.weight)
    assert now["thresholds"]["bare_except"] == manifest["thresholds"]["bare_except"]


def test_the_temperature_put_into_the_head_leaves_what_is_served_as_it_was(trained: Trained) -> None:
    encoder, tokenizer, _ = checkpoint.load(trained.weights)
    rows = rows_of(trained.data, "validation", tokenizer)
    before = probabilities(encoder, rows, temperature=2.0)
    calibrated(encoder, 2.0)
    np.testing.assert_allclose(probabilities(encoder, rows), before, atol=1e-5)


def answered(graver: Sequence[float], shown: Sequence[int]) -> Answered:
    scores = np.array(graver, np.float32)
    return Answered(scores, scores, np.array(shown))


def test_both_sides_are_drawn_alike_so_that_equal_answers_never_differ(trained: Trained) -> None:
    _, tokenizer, _ = checkpoint.load(trained.weights)
    rows = rows_of(trained.data, "validation", tokenizer)
    side = answered(np.random.default_rng(1).random(len(rows)).tolist(), rows.labels.tolist())
    found = compare(side, side, rows, CONCEPTS, seed=1)
    assert set(map(tuple, found["difference"].values())) == {(0.0, 0.0, 0.0)}
    assert found["before"]["precision"] == [1.0, 1.0, 1.0]
    value, low, high = found["before"]["line_ap"]
    assert low < value < high


def test_figures_that_cannot_be_told_are_none_and_keep_nothing(trained: Trained) -> None:
    _, tokenizer, _ = checkpoint.load(trained.weights)
    rows = rows_of(trained.data, "validation", tokenizer)
    rows = replace(rows, labels=np.zeros_like(rows.labels))
    side = answered([0.0] * len(rows), [0] * len(rows))
    found = compare(side, side, rows, CONCEPTS, seed=1)
    assert found["after"] == {name: [None, None, None] for name in FIGURES}
    assert not verdict(found)["is_kept"]


@pytest.mark.parametrize(
    ("line_ap", "precision", "recall", "is_kept"),
    [
        ((0.1, 0.02, 0.2), (0.0, -0.1, 0.1), (0.1, 0.0, 0.2), True),
        ((0.1, 0.0, 0.2), (0.1, 0.0, 0.2), (0.1, 0.0, 0.2), False),
        ((0.1, 0.02, 0.2), (-0.2, -0.3, -0.1), (0.1, 0.0, 0.2), False),
        ((0.1, 0.02, 0.2), (0.1, 0.0, 0.2), (-0.2, -0.3, -0.1), False),
        ((0.1, 0.02, 0.2), (None, None, None), (0.1, 0.0, 0.2), True),
    ],
)
def test_better_is_a_line_ap_surely_higher_with_nothing_shown_surely_worse(
    line_ap: Any, precision: Any, recall: Any, is_kept: bool
) -> None:
    difference = {"line_ap": line_ap, "precision": precision, "recall": recall}
    assert verdict({"difference": difference})["is_kept"] is is_kept


def test_a_history_that_is_too_short_is_refused(trained: Trained, tmp_path: Path) -> None:
    repository = made.history(tmp_path / "r", [(BEGAN, "all at once", {f"m{at}.py": file(at) for at in range(60)})])
    request = asked(repository, trained.weights, tmp_path / "out")
    with pytest.raises(DataError, match="too short to learn from: 0 lines with a finding before"):
        run(request)
    assert not (tmp_path / "out").exists()


def test_a_language_without_an_analyzer_is_refused_and_named(trained: Trained, tmp_path: Path) -> None:
    repository = made.history(tmp_path / "r", [(BEGAN, "add", {"a.go": "package a\n", "b.go": "package a\n"})])
    request = asked(repository, trained.weights, tmp_path / "out")
    message = r"its files are in go \(2\), the analyzers here read python, the weights answer in python; install an"
    with pytest.raises(DataError, match=message):
        run(request)


def test_a_history_without_a_finding_is_refused(trained: Trained, tmp_path: Path) -> None:
    request = asked(daily(tmp_path / "r"), trained.weights, tmp_path / "out")
    silent = Teacher("ruff", ("python",), lambda folder, files: Report(()))
    with pytest.raises(DataError, match="too short to learn from: 0 lines with a finding"):
        adapt(request, [silent], lambda _: None, made.still)


def test_weights_are_never_written_over(trained: Trained, tmp_path: Path) -> None:
    request = asked(tmp_path, trained.weights, trained.weights)
    with pytest.raises(DataError, match="holds weights already; give another folder"):
        run(request)


def test_the_command_prints_the_report_and_ends_well_where_nothing_is_kept(
    start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ruff as the analyzer; what it says of this history the weights know already."""
    repository = written(tmp_path / "r", {at: file(at).replace("log.warn", "log.info") for at in range(DAYS)})
    words = ["--repo", repository, "--out", tmp_path / "out", "--weights", start, "--name", "made/known"]
    with pytest.raises(SystemExit) as ended:
        main(["model", "adapt", *map(str, words)])
    out, err = capsys.readouterr()
    report = json.loads((tmp_path / "out" / "adapted.json").read_text())
    assert (ended.value.code, report["is_kept"], report["repository"]) == (0, False, "made/known")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["adapted.json"]
    assert f"not kept: {report['reason']}; the present weights stay" in err
    value, low, high = report["figures"]["before"]["line_ap"]
    assert f"{value:.3f} ({low:.3f} to {high:.3f})" in out
    assert value > 0.95
