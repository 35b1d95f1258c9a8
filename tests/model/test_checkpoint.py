# ruff: noqa: E402
import hashlib
import json
import pickle
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
from model.engine import ModelError, load_engine
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


def change(folder: Path, **fields: Any) -> None:
    manifest = json.loads((folder / checkpoint.MANIFEST).read_text("utf-8"))
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest | fields))


def swap(folder: Path, name: str, content: bytes) -> None:
    """Another file under the name, vouched for by the manifest."""
    (folder / name).write_bytes(content)
    files = json.loads((folder / checkpoint.MANIFEST).read_text("utf-8"))["files"]
    change(folder, files=files | {name: hashlib.sha256(content).hexdigest()})


class Trap:
    """A pickle that makes a file when it is loaded by one who trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_weights_that_hold_code_are_refused_and_it_is_not_run(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "it ran"
    trap = pickle.dumps(Trap(mark))
    pickle.loads(trap)
    mark.unlink()  # the trap works
    for name in (checkpoint.WEIGHTS, checkpoint.TOKENIZER):
        swap(folder, name, trap)
        with pytest.raises(CheckpointError):
            checkpoint.load(folder)
    change(folder, name="made", version="0")
    swap(folder, checkpoint.TOKENIZER, made.tokenizer().model)
    swap(folder, checkpoint.ONNX, trap)
    with pytest.raises(ModelError, match="does not load"):
        load_engine(weights=folder)
    assert not mark.exists()


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
        (lambda folder: change(folder, format=2), r"format 2 where this version reads 1; upgrade Sentinel"),
        (lambda folder: change(folder, format=None), r"format None where this version reads 1; train again"),
        (lambda folder: (folder / checkpoint.MANIFEST).write_text("[]"), r"format None where this version reads 1"),
        (lambda folder: change(folder, config={"depth": 9}), r"does not fit together: EncoderConfig has no depth"),
        (
            lambda folder: change(folder, concepts=["bare_except"]),
            r"does not fit together: Error.* in loading state_dict",
        ),
        (lambda folder: change(folder, config=None), r"does not fit together"),
        (lambda folder: swap(folder, checkpoint.WEIGHTS, b"\x00" * 64), r"does not fit together: .*train again"),
        (
            lambda folder: swap(folder, checkpoint.TOKENIZER, b"no pieces"),
            r"does not fit together: 9 bytes that Sentence",
        ),
        (misfit, r"the tokenizer has \d+ pieces, the encoder \d+; export again"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(
    damage: Callable[[Path], object], message: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)
