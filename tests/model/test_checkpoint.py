# ruff: noqa: E402
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from model import checkpoint
from model.checkpoint import CheckpointError
from model.config import EncoderConfig
from model.encoder import Encoder
from tests.model import made

pytestmark = pytest.mark.train
CONFIG = EncoderConfig(len(made.tokenizer()), width=16, layers=1, heads=2, hidden=24, bigrams=64, max_tokens=64)
MANIFEST: dict[str, Any] = {
    "concepts": ["bare_except", "debug_print"],
    "languages": ["python"],
    "temperature": 1.0,
    "thresholds": {"bare_except": 0.5, "debug_print": 0.5},
    "config": asdict(CONFIG),
    "data": {"lines": 3},
}


@pytest.fixture
def encoder() -> Encoder:
    torch.manual_seed(3)
    return Encoder(CONFIG, 3)


@pytest.fixture
def folder(encoder: Encoder, tmp_path: Path) -> Path:
    """A folder of weights; what stands in for the onnx file is not read here."""
    checkpoint.save(tmp_path, encoder, made.tokenizer())
    (tmp_path / checkpoint.ONNX).write_bytes(b"graph")
    checkpoint.write_manifest(tmp_path, MANIFEST)
    return tmp_path


def test_what_was_saved_loads_as_half_rounds_it(folder: Path, encoder: Encoder) -> None:
    loaded, tokenizer, manifest = checkpoint.load(folder)
    tokens = torch.randint(1, CONFIG.vocab_size, (4, 9))
    with torch.inference_mode():
        assert not torch.equal(loaded(tokens), encoder(tokens))
        assert torch.equal(loaded(tokens), checkpoint.half(encoder)(tokens))
    assert tokenizer.model == made.tokenizer().model
    assert (loaded.config, loaded.training) == (CONFIG, False)
    assert manifest == json.loads((folder / "manifest.json").read_text("utf-8"))


def test_weights_are_stored_at_half_the_size_and_execute_nothing(folder: Path, encoder: Encoder) -> None:
    numbers = sum(value.numel() for value in encoder.parameters())
    content = (folder / checkpoint.WEIGHTS).read_bytes()
    header = int.from_bytes(content[:8], "little")
    assert len(content) == 8 + header + 2 * numbers
    assert set(json.loads(content[8 : 8 + header])) == set(encoder.state_dict())


def test_the_manifest_keeps_what_it_is_given(folder: Path) -> None:
    written = json.loads((folder / "manifest.json").read_text("utf-8"))
    assert {key: written[key] for key in MANIFEST} == MANIFEST
    assert written["format"] == checkpoint.FORMAT
    assert set(written["files"]) == {checkpoint.ONNX, checkpoint.WEIGHTS, checkpoint.TOKENIZER}
    checkpoint.write_manifest(folder, written)
    assert json.loads((folder / "manifest.json").read_text("utf-8")) == written


def test_torchscript_is_listed_where_it_was_exported(folder: Path) -> None:
    (folder / "encoder.torchscript.pt").write_bytes(b"code")
    checkpoint.write_manifest(folder, MANIFEST)
    assert "encoder.torchscript.pt" in checkpoint.read_manifest(folder)["files"]


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({}, False),
        ({"data": {"lines": 4}, "heldout": {"model": 1}}, False),
        ({"thresholds": {"bare_except": 0.6, "debug_print": 0.5}}, True),
        ({"temperature": 1.1}, True),
        ({"languages": ["python", "shell"]}, True),
        ({"concepts": ["debug_print", "bare_except"]}, True),
    ],
)
def test_the_digest_is_another_when_the_answers_are(changes: dict[str, Any], is_other: bool, folder: Path) -> None:
    before = checkpoint.read_manifest(folder)["digest"]
    checkpoint.write_manifest(folder, MANIFEST | changes)
    assert (checkpoint.read_manifest(folder)["digest"] != before) == is_other


def test_other_weights_have_another_digest(folder: Path) -> None:
    before = checkpoint.read_manifest(folder)["digest"]
    (folder / checkpoint.ONNX).write_bytes(b"other graph")
    checkpoint.write_manifest(folder, MANIFEST)
    assert checkpoint.read_manifest(folder)["digest"] != before


def test_a_figure_that_json_cannot_hold_is_not_written(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        checkpoint.write_manifest(folder, MANIFEST | {"heldout": {"line_ap": float("nan")}})
    assert (folder / "manifest.json").read_bytes() == before


def misfit(folder: Path) -> None:
    """Weights and manifest of a network with another vocabulary."""
    config = replace(CONFIG, vocab_size=CONFIG.vocab_size + 9)
    checkpoint.save(folder, Encoder(config, 3), made.tokenizer())
    checkpoint.write_manifest(folder, MANIFEST | {"config": asdict(config)})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / checkpoint.MANIFEST).unlink(), r"no manifest\.json in .*sentinelctl model train"),
        (lambda folder: (folder / checkpoint.MANIFEST).write_text("{"), r"manifest\.json is no JSON: .*export again"),
        (
            lambda folder: (folder / checkpoint.WEIGHTS).unlink(),
            r"safetensors is not .*expected sha256 \w+, found no file",
        ),
        (lambda folder: (folder / checkpoint.TOKENIZER).write_bytes(b"x"), r"tokenizer\.model is not .*found \w{64}"),
        (misfit, r"the tokenizer has \d+ pieces, the encoder \d+; export again"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    damage: Callable[[Path], object], message: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)
