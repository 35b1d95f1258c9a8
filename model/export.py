"""The encoder as int8 ONNX for serving, and as TorchScript on demand."""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from model.checkpoint import ONNX
from model.encoder import Network
from model.engine import Forward
from model.inputs.chunk import chunks
from model.inputs.diff import number_lines
from model.inputs.tokenizer import Tokenizer
from model.quantize import quantize_weights

TORCHSCRIPT: Final = "encoder.torchscript.pt"
_OPSET: Final = 17
_PROBED: Final = 40  # lines of each file


@dataclass(frozen=True, slots=True)
class Parity:
    """How an exported file answers beside torch on the same rows."""

    same_label: float  # share of rows with the same best output
    largest_gap: float  # of a probability
    rows: int


def export_onnx(encoder: Network, folder: Path) -> Path:
    """Writes encoder.int8.onnx: input `tokens` int64 (rows, length), output `logits` float32 (rows, outputs)."""
    target = folder / ONNX
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: deprecations, tracing
        full = Path(scratch) / "encoder.onnx"
        torch.onnx.export(
            encoder.eval(),
            (_example(encoder),),
            str(full),
            input_names=["tokens"],
            output_names=["logits"],
            dynamic_axes={"tokens": {0: "rows", 1: "length"}, "logits": {0: "rows"}},
            opset_version=_OPSET,
            dynamo=False,
        )
        quantize_weights(full, target)
    return target


def export_torchscript(encoder: Network, folder: Path) -> Path:
    """Writes encoder.torchscript.pt, which is code: the engine loads it only by the SHA-256 of the manifest."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(encoder.eval(), (_example(encoder),)).save(str(folder / TORCHSCRIPT))
    return folder / TORCHSCRIPT


def parity(encoder: Network, served: Forward, tokens: npt.NDArray[np.int64]) -> Parity:
    """Compares an exported forward pass with torch's on padded rows (rows, length)."""
    with torch.inference_mode():
        theirs = torch.from_numpy(served(tokens)).softmax(-1)
        trained = encoder.eval()(torch.from_numpy(tokens)).softmax(-1)
    same = (theirs.argmax(-1) == trained.argmax(-1)).float().mean()
    return Parity(float(same), float((theirs - trained).abs().max()), len(tokens))


def own_rows(tokenizer: Tokenizer, max_tokens: int) -> npt.NDArray[np.int64]:
    """Rows to compare by where no data is at hand: lines of this package's own source, padded."""
    rows = []
    for path in sorted(Path(__file__).parent.glob("*.py")):
        lines = path.read_text("utf-8").splitlines()[:_PROBED]
        hunk = number_lines(f"model/{path.name}", (0, 0), (1, len(lines)), "", [("add", line) for line in lines])
        rows += [row for chunk in chunks(hunk, tokenizer, max_tokens=max_tokens) for row in chunk.rows]
    padded = np.zeros((len(rows), max(map(len, rows))), np.int64)
    for at, row in enumerate(rows):
        padded[at, : len(row)] = row
    return padded


def _example(encoder: Network) -> torch.Tensor:
    example = torch.randint(1, encoder.config.vocab_size, (3, 11))
    example[1, 7:] = 0
    return example
