"""Shipped triage weights to answers, by onnxruntime alone: comments in, severity, category and confidence out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from model.engine import Manifest, ModelError, passes, read_manifest, read_verified, softmax
from model.labels import CATEGORIES, SEVERITIES, Category, Severity
from model.mining.comments import Comment
from model.triage.words import Batch, batch_of, words_of

WEIGHTS: Final = Path(__file__).parents[1] / "weights" / "triage"
ONNX: Final = "triage.int8.onnx"
TASK: Final = "triage"
_PASS_WORDS: Final = 4096  # of one forward pass, padding included

Floats = npt.NDArray[np.float32]
Forward = Callable[[Batch], Floats]


@dataclass(frozen=True, slots=True)
class Verdict:
    severity: Severity
    category: Category
    confidence: float  # in the severity, 0 to 1


class Triage:
    """The network with the shape its inputs need. Safe to share between threads."""

    def __init__(self, manifest: Manifest, forward: Forward) -> None:
        self.manifest = manifest
        self._buckets = int(manifest.document["config"]["vocab_size"])
        self._forward = forward

    def classify(self, comments: Sequence[Comment]) -> list[Verdict]:
        """One answer a comment, in their order."""
        severities, categories = split(
            logits_of(
                self._forward, [words_of(each.body, each.path, each.diff_hunk) for each in comments], self._buckets
            )
        )
        sure = softmax(severities / self.manifest.temperature)
        return [
            Verdict(SEVERITIES[int(row.argmax())], CATEGORIES[int(kind.argmax())], float(row.max()))
            for row, kind in zip(sure, categories, strict=True)
        ]


def load_triage(weights: Path | None = None) -> Triage:
    """The shipped weights, or a folder that `sentinelctl model train-triage` wrote. Raises ModelError."""
    folder = weights or WEIGHTS
    if not (folder / "manifest.json").exists():
        raise ModelError(
            f"no triage weights in {folder}; `sentinelctl model train-triage --data FILE --out DIR` makes them, and "
            "--weights DIR uses them"
        )
    manifest = read_manifest(folder)
    document = manifest.document
    wanted = {"task": TASK, "severities": list(SEVERITIES), "categories": list(CATEGORIES)}
    for name, value in wanted.items():
        if document.get(name) != value:
            raise ModelError(
                f"{folder} has {name} {document.get(name)!r} where triage reads {value!r}; "
                "give a folder that `sentinelctl model train-triage` of this version wrote"
            )
    buckets = document.get("config", {}).get("vocab_size") if isinstance(document.get("config"), dict) else None
    if not isinstance(buckets, int) or not 2 <= buckets < 2**31 or not math.isfinite(manifest.temperature):
        raise ModelError(f"{folder / 'manifest.json'} says {buckets!r} of its table; restore it, or train again")
    return Triage(manifest, load_forward(read_verified(folder, ONNX, manifest)))


def load_forward(content: bytes) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")  # int8 becomes float32 once, at load
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base class of their own
        raise ModelError(f"onnxruntime {onnxruntime.__version__} does not load {ONNX}: {exc}") from exc
    return lambda batch: session.run(["logits"], {"grams": batch.grams, "words": batch.words})[0]


def logits_of(forward: Forward, rows: Sequence[Sequence[str]], buckets: int) -> Floats:
    """(rows, 4 + 12), rows of like length together in one pass."""
    logits = np.zeros((len(rows), len(SEVERITIES) + len(CATEGORIES)), np.float32)
    for picked in passes([len(row) for row in rows], _PASS_WORDS):
        logits[picked] = forward(batch_of([rows[at] for at in picked], buckets))
    return logits


def split(logits: Floats) -> tuple[Floats, Floats]:
    """Of the severities, and of the categories."""
    return logits[:, : len(SEVERITIES)], logits[:, len(SEVERITIES) :]
