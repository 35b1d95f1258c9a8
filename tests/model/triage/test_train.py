"""The whole path in seconds: comments in, weights out, served without torch as they were trained."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.dataset import DataError
from model.engine import ModelError
from model.triage.engine import ONNX, Triage, load_triage
from tests.model.made import still
from tests.model.triage import made

pytest.importorskip("torch")
pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from model.triage.train import train

    folder = tmp_path_factory.mktemp("triage")
    train(made.RECIPE, made.KNOWN, folder, lambda _: None, clock=still, elsewhere=made.comments(90, "made/elsewhere"))
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> Triage:
    return load_triage(folder)


def test_the_rule_is_learned_beside_what_knows_less_and_scores_one_itself(folder: Path) -> None:
    heldout = json.loads((folder / "manifest.json").read_text("utf-8"))["heldout"]
    assert list(heldout) == [
        "one repository left out",
        "without made/other",
        "without made/up",
        "later in time",
        "1 other repositories",
    ]
    for found in heldout.values():
        assert found["model"]["accuracy"] > 0.9
        assert found["model"]["balanced_accuracy"] > 0.8
        assert found["majority"]["balanced_accuracy"] == pytest.approx(0.25)
        assert found["rule"]["accuracy"] == found["rule"]["category_accuracy"] == 1.0
        assert found["linear"]["accuracy"] > found["majority"]["accuracy"]
    assert heldout["later in time"]["comments"] == 60
    assert heldout["1 other repositories"]["comments"] == 90


def test_what_was_written_answers_as_it_was_trained(engine: Triage) -> None:
    asked = ["this will crash on null", "the loop here is incorrect", "please could be simpler", "nit: indent"]
    verdicts = engine.classify([made.comment(body) for body in asked])
    assert [each.severity for each in verdicts] == ["critical", "bug", "suggestion", "nit"]
    assert all(0.25 <= each.confidence <= 1 for each in verdicts)


def test_an_answer_does_not_depend_on_its_company(engine: Triage) -> None:
    many = [made.comment(f"{each.body} {'and so on ' * (at % 30)}") for at, each in enumerate(made.KNOWN[:80])]
    together = engine.classify(many)
    alone = [engine.classify([each])[0] for each in many]
    assert [each.severity for each in together] == [each.severity for each in alone]
    assert np.allclose([each.confidence for each in together], [each.confidence for each in alone], atol=1e-4)


def test_no_comment_has_no_answer_and_an_empty_one_has_one(engine: Triage) -> None:
    assert engine.classify([]) == []
    assert len(engine.classify([replace(made.comment(""), path="", diff_hunk="")])) == 1


def test_the_same_seed_gives_the_same_weights(folder: Path, tmp_path: Path) -> None:
    from model.triage.train import train

    train(made.RECIPE, made.KNOWN, tmp_path, lambda _: None, clock=still, is_judged=False)
    again = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    assert again["files"] == json.loads((folder / "manifest.json").read_text("utf-8"))["files"]
    assert again["heldout"] == {}


def test_too_few_comments_are_refused(tmp_path: Path) -> None:
    from model.triage.train import train

    with pytest.raises(DataError, match="3 comments are too few"):
        train(made.RECIPE, made.KNOWN[:3], tmp_path, lambda _: None)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"task": "review"}, "has task 'review'"),
        ({"severities": ["nit"]}, r"has severities \['nit'\]"),
        ({"config": {"vocab_size": "many"}}, "says 'many' of its table"),
        ({"format": 2}, "upgrade Sentinel"),
        ({"files": {ONNX: "0" * 64}}, "expected SHA-256 0000"),
    ],
)
def test_weights_of_another_kind_or_changed_are_refused(
    folder: Path, tmp_path: Path, changed: dict[str, object], says: str
) -> None:
    manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | changed))
    (tmp_path / ONNX).write_bytes((folder / ONNX).read_bytes())
    with pytest.raises(ModelError, match=says):
        load_triage(tmp_path)
