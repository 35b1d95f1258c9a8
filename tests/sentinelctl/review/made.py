"""An engine whose findings are written in the lines it reads: `#! CONCEPT SEVERITY CONFIDENCE`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.engine import Finding, ModelInfo, Probabilities
from model.inputs.chunk import Chunk
from model.inputs.diff import Hunk, parse_diff
from sentinelctl.review.findings import Reviewed, review_files
from sentinelctl.review.imports import Imported


@dataclass
class Engine:
    info: ModelInfo = field(default_factory=lambda: ModelInfo("made", "1", "d" * 64, ("python",), "made"))

    def skip_reason(self, hunk: Hunk) -> str | None:
        return None if hunk.path.endswith(".py") else "language_not_taught"

    def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
        return ()

    def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        return [np.zeros((0, 1), np.float32) for _ in chunks]

    def findings(self, hunk: Hunk, chunks: Sequence[Chunk], scores: Sequence[Probabilities]) -> tuple[Finding, ...]:
        return tuple(_finding(hunk.path, line.new, line.text) for line in hunk.lines if "#!" in line.text)

    def weigh(self, hunk: Hunk, asked: Sequence[tuple[int, str]]) -> list[float | None]:
        """A third for each concept; nothing of a language it does not read."""
        return [None if self.skip_reason(hunk) else 0.33 for _ in asked]


def _finding(path: str, line: int | None, text: str) -> Finding:
    concept, severity, confidence = text.split("#!")[1].split()[:3]
    made: Any = {"severity": severity, "category": "logic"}
    return Finding(
        path=path,
        line=line or 0,
        side="RIGHT",
        concept=concept,
        title=f"Title of {concept}",
        text="What it is: 100% wrong.\nDo better.",
        confidence=float(confidence),
        is_shown=float(confidence) >= 0.5,
        **made,
    )


def diff(*lines: str, path: str = "a.py", start: int = 1) -> str:
    body = "".join(f"+{line}\n" for line in lines)
    return (
        f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -{start - 1},0 +{start},{len(lines)} @@\n{body}"
    )


def reviewed(text: str, min_severity: Any = "nit", imported: Sequence[Imported] = (), cwd: Path = Path()) -> Reviewed:
    return review_files(Engine(), parse_diff(text), min_severity, imported=imported, cwd=cwd)
