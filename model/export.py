"""The encoder as int8 ONNX for serving, and as TorchScript on demand."""

import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from model.checkpoint import ONNX
from model.encoder import Encoder
from model.quantize import quantize_weights

TORCHSCRIPT: Final = "encoder.torchscript.pt"
_OPSET: Final = 17


@dataclass(frozen=True, slots=True)
class Parity:
    """How the int8 graph answers beside torch on the same rows."""

    same_label: float  # share of rows with the same best output
    largest_gap: float  # of a probability
    rows: int


def export_onnx(encoder: Encoder, folder: Path) -> Path:
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


def export_torchscript(encoder: Encoder, folder: Path) -> Path:
    """Writes encoder.torchscript.pt, which is code: the engine loads it only by the SHA-256 of the manifest."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(encoder.eval(), (_example(encoder),)).save(str(folder / TORCHSCRIPT))
    return folder / TORCHSCRIPT


def parity(encoder: Encoder, onnx: Path, tokens: npt.NDArray[np.int64]) -> Parity:
    """Compares both on padded rows (rows, length)."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # as the engine does
    session = onnxruntime.InferenceSession(str(onnx), options, providers=["CPUExecutionProvider"])
    served = torch.from_numpy(session.run(["logits"], {"tokens": tokens})[0]).softmax(-1)
    with torch.inference_mode():
        trained = encoder.eval()(torch.from_numpy(tokens)).softmax(-1)
    same = (served.argmax(-1) == trained.argmax(-1)).float().mean()
    return Parity(float(same), float((served - trained).abs().max()), len(tokens))


def _example(encoder: Encoder) -> torch.Tensor:
    example = torch.randint(1, encoder.config.vocab_size, (3, 11))
    example[1, 7:] = 0
    return example
