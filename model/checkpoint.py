"""Weights on disk: safetensors, tokenizer and manifest.json, each file named there with its SHA-256."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from model.config import EncoderConfig, build
from model.encoder import Network
from model.encoder import build as build_network
from model.engine import ModelError
from model.inputs.tokenizer import Tokenizer

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "encoder.safetensors"
ONNX: Final = "encoder.int8.onnx"
TOKENIZER: Final = "tokenizer.model"
FORMAT: Final = 1


class CheckpointError(ModelError):
    """Files that do not belong together; the message says what was expected and found."""


def save(folder: Path, encoder: Network, tokenizer: Tokenizer) -> None:
    """Half precision: training from it goes on as well, at half the size."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.half().contiguous() for name, value in encoder.state_dict().items()}, folder / WEIGHTS)
    (folder / TOKENIZER).write_bytes(tokenizer.model)


def load(folder: Path) -> tuple[Network, Tokenizer, dict[str, Any]]:
    """Encoder (float32, ready to answer), tokenizer and manifest. Raises CheckpointError."""
    manifest = read_manifest(folder)
    for name in (WEIGHTS, TOKENIZER):
        path = folder / name
        expected, found = manifest["files"].get(name), sha256(path) if path.exists() else "no file"
        if expected != found:
            raise CheckpointError(
                f"{path} is not the file of this manifest: expected sha256 {expected}, found {found}; "
                "restore it, or export again"
            )
    try:
        tokenizer = Tokenizer.load(folder / TOKENIZER)
        config = build(EncoderConfig, manifest["config"])
        if len(tokenizer) != config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {len(tokenizer)} pieces, the encoder {config.vocab_size}; export again"
            )
        encoder = build_network(config, 1 + len(manifest["concepts"]))
        encoder.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    except (KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as exc:
        first = str(exc).strip().partition("\n")[0] or repr(exc)
        raise CheckpointError(f"{folder} does not fit together: {first}; restore it, or train again") from exc
    return encoder.eval(), tokenizer, manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError as exc:
        raise CheckpointError(f"no {MANIFEST} in {folder}; train with `sentinelctl model train`") from exc
    except ValueError as exc:
        raise CheckpointError(f"{folder / MANIFEST} is no JSON: {exc}; restore it, or export again") from exc
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if found != FORMAT:
        is_newer = isinstance(found, int) and found > FORMAT
        remedy = "upgrade Sentinel, or use older weights" if is_newer else "train again"
        raise CheckpointError(f"{folder / MANIFEST} has format {found!r} where this version reads {FORMAT}; {remedy}")
    return manifest


def write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    """Writes manifest.json with `files` and `digest` as the folder has them now.

    The digest names the answers: it covers the files, and what turns their scores into findings.
    """
    files = {name: sha256(folder / name) for name in (ONNX, WEIGHTS, TOKENIZER, *_torchscript(folder))}
    decisive = [files, *(manifest[key] for key in ("concepts", "languages", "temperature", "thresholds"))]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    document = {"format": FORMAT, **manifest, "files": files, "digest": digest}
    (folder / MANIFEST).write_text(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _torchscript(folder: Path) -> tuple[str, ...]:
    return ("encoder.torchscript.pt",) if (folder / "encoder.torchscript.pt").exists() else ()


def half(encoder: Network) -> Network:
    """The encoder as `load` will return it: rounded once to half precision."""
    with torch.no_grad():
        for value in encoder.parameters():
            value.copy_(value.half().float())
    return encoder.eval()
