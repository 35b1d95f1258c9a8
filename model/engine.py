"""Shipped weights to findings: hunks in, one answer per added line out. The onnx engine never imports torch.

What was verified is what is run: each file is read once, its SHA-256 compared with the manifest, and loaded from those
bytes. Weights are safetensors and ONNX, which execute nothing; TorchScript is code, and is loaded only when the
operator asks for that engine and the manifest vouches for the file.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from model.inputs.chunk import MAX_TOKENS, Chunk, chunks
from model.inputs.diff import Hunk
from model.inputs.files import is_beside, language
from model.inputs.tokenizer import Tokenizer, TokenizerError
from model.labels import SEVERITIES, Category, Concept, Severity, load_concepts
from model.rules import rule_findings

FORMAT: Final = 1
WEIGHTS: Final = Path(__file__).parent / "weights"
PRECISION: Final = 0.6  # asked of what is shown, where nothing else is asked
PRECISIONS: Final = (0.5, 0.6, 0.7, 0.8, 0.9)  # those that thresholds are kept for
MIN_CONFIDENCE: Final = 0.1  # below it a line counts as clean
LEAST_KEPT: Final = 0.5  # no confidence is more than doubled by what is not asked of the line
_LOOKED_AT: Final = 1e-3  # a concept less likely than this is not asked whether it excuses the line
PART_CHUNKS: Final = 64  # about a second's work: what a progress bar can show
_LEGIBLE: Final = 400  # characters of a line that must be so
_RUN: Final = re.compile(r"[a-z]+|[A-Z]+|[0-9]+|[^a-zA-Z0-9]+")
_NOISY_FROM: Final = 24  # characters from which noise can be told
_NOISY: Final = 0.6  # share of them that begin a run; of the validation repositories' lines one of 850 has more
_PASS_TOKENS: Final = 1024  # tokens of one forward pass, padding included: more falls out of the cache and is slower
_LEAST_PASS_TOKENS: Final = 128  # fewer are not worth another thread
_ONNX: Final = "encoder.int8.onnx"
_TORCHSCRIPT: Final = "encoder.torchscript.pt"
_TOKENIZER: Final = "tokenizer.model"

Probabilities = npt.NDArray[np.float32]
Forward = Callable[[npt.NDArray[np.int64]], Probabilities]


def asked_of(concepts: Sequence[Concept], path: str) -> list[bool]:
    """Which of them are asked of a file: by its language, and whether it is a test or stands beside the product."""
    spoken, beside = language(path), is_beside(path)
    return [concept.speaks(spoken) and (concept.in_tests or not beside) for concept in concepts]


class ModelError(Exception):
    """Weights that cannot be served; the message says what was expected, what was found, and what to do."""


@dataclass(frozen=True, slots=True)
class Finding:
    path: str
    line: int  # new numbering
    side: Literal["RIGHT"]
    concept: str
    title: str
    text: str
    category: Category
    severity: Severity
    confidence: float  # calibrated, 0 to 1
    is_shown: bool  # the confidence reaches the concept's threshold


@dataclass(frozen=True, slots=True)
class ModelInfo:
    name: str
    version: str
    digest: str
    languages: tuple[str, ...]
    engine: str


class Engine(Protocol):
    @property
    def info(self) -> ModelInfo: ...

    def skip_reason(self, hunk: Hunk) -> str | None:
        """Why the model does not read this hunk (`language_not_taught`), or None. Rules read it all the same."""

    def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
        """Windows of the hunk's added lines; none where skip_reason names one."""

    def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        """Per chunk (rows, 1 + concepts) calibrated probabilities, column 0 no finding. Blocks for the forward pass."""

    def findings(self, hunk: Hunk, chunks: Sequence[Chunk], scores: Sequence[Probabilities]) -> tuple[Finding, ...]:
        """The rules' and the model's findings, by line, worst first."""

    def weigh(self, hunk: Hunk, asked: Sequence[tuple[int, str]]) -> list[float | None]:
        """Of each (new line number, concept) the calibrated confidence; None for a line that the model does not read.

        For a concept that these weights do not know, the confidence that there is any finding. Blocks as predict does.
        """


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says of the weights beside it; `document` is all of it."""

    name: str
    version: str
    digest: str
    files: Mapping[str, str]
    concepts: tuple[str, ...]
    languages: tuple[str, ...]
    temperature: float
    thresholds: Mapping[str, float]
    document: Mapping[str, Any]


class ScoringEngine:
    """Any forward pass, with the tokenizer, catalog and calibration that belong to it."""

    def __init__(
        self,
        kind: str,
        manifest: Manifest,
        tokenizer: Tokenizer,
        catalog: Iterable[Concept],
        forward: Forward,
        *,
        threads: int = 1,
    ) -> None:
        """`threads` forward passes at once, each on a thread of its own."""
        self.info = ModelInfo(manifest.name, manifest.version, manifest.digest, manifest.languages, kind)
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._forward = forward
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="forward")
        by_id = {concept.id: concept for concept in catalog}
        if unknown := [name for name in manifest.concepts if name not in by_id]:
            raise ModelError(
                f"the weights name the concept {unknown[0]!r}, which concepts.toml of this version does not have; "
                "use weights made for this version (`sentinelctl model info` names both)"
            )
        self._rules = {name: concept for name, concept in by_id.items() if concept.is_rule}
        self._concepts = tuple(by_id[name] for name in manifest.concepts)
        self._thresholds = np.array([manifest.thresholds.get(name, 1.0) for name in manifest.concepts])
        self._taught = frozenset(manifest.languages)
        self._max_tokens = int(manifest.document.get("config", {}).get("max_tokens", MAX_TOKENS))
        columns = forward(np.ones((1, 1), np.int64)).shape[1]
        if columns != 1 + len(manifest.concepts):
            raise ModelError(
                f"the encoder answers {columns} columns where the manifest's {len(manifest.concepts)} concepts need "
                f"{1 + len(manifest.concepts)}; the files are of two trainings, so export them anew"
            )

    def skip_reason(self, hunk: Hunk) -> str | None:
        return None if language(hunk.path) in self._taught else "language_not_taught"

    def encode(self, hunk: Hunk) -> tuple[Chunk, ...]:
        return () if self.skip_reason(hunk) else chunks(hunk, self._tokenizer, max_tokens=self._max_tokens)

    def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        rows = [row for chunk in chunks for row in chunk.rows]
        logits = np.zeros((len(rows), 1 + len(self._concepts)), np.float32)
        lengths = [len(row) for row in rows]
        share = -(-sum(lengths) // self._threads)

        def score(batch: list[int]) -> None:
            tokens = np.zeros((len(batch), lengths[batch[-1]]), np.int64)
            for at, row in enumerate(batch):
                tokens[at, : lengths[row]] = rows[row]
            logits[batch] = self._forward(tokens)

        batches = passes(lengths, min(_PASS_TOKENS, max(share, _LEAST_PASS_TOKENS)))
        if len(batches) == 1:
            score(batches[0])
        else:
            list(self._pool.map(score, batches))
        probabilities = softmax(logits / self._manifest.temperature)
        ends = np.cumsum([len(chunk.rows) for chunk in chunks])
        return list(np.split(probabilities, ends[:-1])) if chunks else []

    def findings(self, hunk: Hunk, chunks: Sequence[Chunk], scores: Sequence[Probabilities]) -> tuple[Finding, ...]:
        texts = {line.new: line.text for line in hunk.lines if line.new is not None}
        found = [
            self._finding(hunk.path, line, texts[line], self._rules[name], 1.0, True)
            for line, name in rule_findings(hunk)
            if name in self._rules
        ]
        allowed = self._allowed(hunk.path)
        for chunk, score in zip(chunks, scores, strict=True):
            for row, at in enumerate(chunk.lines):
                line = hunk.lines[at].new
                if line is None or not is_legible(texts[line]):
                    continue
                if (best := self._best(score[row], allowed, texts[line])) is not None:
                    column, confidence, is_shown = best
                    concept = self._concepts[column]
                    found.append(self._finding(hunk.path, line, texts[line], concept, confidence, is_shown))
        return tuple(
            sorted(
                found, key=lambda each: (each.line, -SEVERITIES.index(each.severity), -each.confidence, each.concept)
            )
        )

    def weigh(self, hunk: Hunk, asked: Sequence[tuple[int, str]]) -> list[float | None]:
        windows = self.encode(hunk)
        column = {concept.id: at for at, concept in enumerate(self._concepts, start=1)}
        read = {
            hunk.lines[at].new: row
            for chunk, score in zip(windows, self.predict(windows), strict=True)
            for at, row in zip(chunk.lines, score, strict=True)
            if is_legible(hunk.lines[at].text)
        }
        return [
            None if line not in read else float(read[line][column[name]] if name in column else 1 - read[line][0])
            for line, name in asked
        ]

    def _allowed(self, path: str) -> npt.NDArray[np.intp]:
        """Columns, none not counted, of the concepts that are asked of this file."""
        return np.flatnonzero(asked_of(self._concepts, path))

    def _best(self, row: Probabilities, allowed: npt.NDArray[np.intp], text: str) -> tuple[int, float, bool] | None:
        """The likeliest concept of those that reach their threshold, else of all; None below MIN_CONFIDENCE.

        row: (1 + concepts,), none first. A confidence is the concept's share of what is asked and of none: what was
        said of concepts that are not asked of this line counts for nothing.
        """
        if row[0] > 1 - MIN_CONFIDENCE:
            return None
        score = row[1:]
        likely = allowed[score[allowed] >= _LOOKED_AT]
        excused = np.array([self._concepts[column].excuses(text) for column in likely], np.bool_)
        kept = float(row[0] + score[allowed].sum() - score[likely][excused].sum())
        share = score / max(kept, LEAST_KEPT)
        asked = likely[~excused]
        asked = asked[share[asked] >= MIN_CONFIDENCE]
        if not len(asked):
            return None
        shown = share[asked] >= self._thresholds[asked]
        pool = asked[shown] if shown.any() else asked
        column = int(pool[np.argmax(share[pool])])
        return column, float(share[column]), bool(shown.any())

    @staticmethod
    def _finding(path: str, line: int, text: str, concept: Concept, confidence: float, is_shown: bool) -> Finding:
        return Finding(
            path=path,
            line=line,
            side="RIGHT",
            concept=concept.id,
            title=concept.title,
            text=concept.say(text),
            category=concept.category,
            severity=concept.severity,
            confidence=confidence,
            is_shown=is_shown,
        )


def load_engine(
    kind: str = "onnx", weights: Path | None = None, threads: int | None = None, min_precision: float = PRECISION
) -> Engine:
    """The engine `kind` (onnx or torchscript) over a folder of weights, the shipped ones by default.

    `threads`: forward passes at once, one per core this process may use by default. `min_precision`: what is shown is
    to be right so often, as far as validation can tell. Raises ModelError.
    """
    folder = weights or WEIGHTS
    threads = threads or len(
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    manifest = at_precision(read_manifest(folder), min_precision)
    try:
        tokenizer = Tokenizer(read_verified(folder, _TOKENIZER, manifest))
    except TokenizerError as exc:
        raise ModelError(f"{folder / _TOKENIZER}: {exc}") from exc
    return ScoringEngine(
        kind, manifest, tokenizer, load_concepts(), load_forward(kind, folder, manifest), threads=threads
    )


def load_forward(kind: str, folder: Path, manifest: Manifest) -> Forward:
    """The forward pass of an engine alone: tokens (rows, length) to logits. Raises ModelError."""
    makers = {"onnx": (_ONNX, _onnx), "torchscript": (_TORCHSCRIPT, _torchscript)}
    if kind not in makers:
        raise ModelError(f"no engine is called {kind!r}; there are {' and '.join(makers)}")
    file, make = makers[kind]
    return make(read_verified(folder, file, manifest))


def review(
    engine: Engine,
    hunks: Sequence[Hunk],
    watched: Callable[[Sequence[Sequence[Chunk]]], Iterable[Sequence[Chunk]]] = iter,
) -> list[tuple[Finding, ...]]:
    """The findings of each hunk. `watched` gets the parts of the work and gives each back when it is to be done."""
    windows = [engine.encode(hunk) for hunk in hunks]
    rest = [chunk for window in windows for chunk in window]
    parts = [rest[at : at + PART_CHUNKS] for at in range(0, len(rest), PART_CHUNKS)]
    scores = iter([score for part in watched(parts) for score in engine.predict(part)])
    return [
        engine.findings(hunk, window, [next(scores) for _ in window])
        for hunk, window in zip(hunks, windows, strict=True)
    ]


def read_manifest(weights: Path | None = None) -> Manifest:
    """manifest.json of a folder of weights. Raises ModelError."""
    path = (weights or WEIGHTS) / "manifest.json"
    remedy = "point inference.weights at a folder that `sentinelctl model export` wrote, or leave it empty"
    try:
        document = json.loads(path.read_bytes())
    except OSError as exc:
        raise ModelError(f"no model at {path}: {exc.strerror}; {remedy}") from exc
    except ValueError as exc:
        raise ModelError(f"{path} is no JSON: {exc}; {remedy}") from exc
    found = document.get("format") if isinstance(document, dict) else None
    if found != FORMAT:
        is_newer = isinstance(found, int) and found > FORMAT
        remedy = "upgrade Sentinel, or use older weights" if is_newer else "export the weights anew"
        raise ModelError(f"{path} has format {found!r} where this version reads {FORMAT}; {remedy}")
    try:
        manifest = Manifest(
            name=str(document["name"]),
            version=str(document["version"]),
            digest=str(document["digest"]),
            files={str(name): str(sha256) for name, sha256 in document["files"].items()},
            concepts=tuple(map(str, document["concepts"])),
            languages=tuple(map(str, document["languages"])),
            temperature=float(document["temperature"]),
            thresholds={str(name): float(least) for name, least in document["thresholds"].items()},
            document=document,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ModelError(f"{path} lacks a field or has a wrong one: {exc!r}; export the weights anew") from exc
    calibration = (manifest.temperature, *manifest.thresholds.values())
    if not all(0 < value < math.inf for value in calibration):
        wrong = next(value for value in calibration if not 0 < value < math.inf)
        raise ModelError(f"{path} is calibrated by {wrong}, where only numbers above 0 mean something; train again")
    return manifest


def at_precision(manifest: Manifest, asked: float) -> Manifest:
    """The manifest with the thresholds of the least precision it keeps that is at least `asked`. Raises ModelError."""
    if asked == PRECISION:
        return manifest
    kept = {float(each): of for each, of in manifest.document.get("thresholds_at", {}).items()}
    enough = [each for each in sorted(kept) if each >= asked]
    if not enough:
        there = ", ".join(f"{each:g}" for each in sorted(kept) or [PRECISION])
        raise ModelError(
            f"the weights {manifest.name} keep thresholds for a precision of {there}, and {asked:g} was asked; ask for "
            "no more than that, or train again"
        )
    return replace(manifest, thresholds={name: float(least) for name, least in kept[enough[0]].items()})


def read_verified(weights: Path, name: str, manifest: Manifest) -> bytes:
    """The bytes of a file whose SHA-256 is the manifest's. Raises ModelError."""
    path = weights / name
    expected = manifest.files.get(name)
    if expected is None:
        raise ModelError(f"{weights / 'manifest.json'} does not list {name}; `sentinelctl model export` writes both")
    try:
        content = path.read_bytes()
    except OSError as exc:
        raise ModelError(f"{path} cannot be read: {exc.strerror}; restore it or export the weights anew") from exc
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise ModelError(
            f"{path} is not the file its manifest describes: expected SHA-256 {expected}, found {found}; "
            "restore the file, or export the weights anew"
        )
    return content


def passes(lengths: Sequence[int], tokens: int = _PASS_TOKENS) -> list[list[int]]:
    """Rows, given by their lengths, cut into forward passes: shortest first, each at most `tokens` once padded."""
    batches: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda at: (lengths[at], at)):
        if batches and (len(batches[-1]) + 1) * lengths[row] <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches


def is_legible(text: str) -> bool:
    """Whether nearly all of a line's characters could be decoded and can be shown, and they are not in random order.

    Of others no calibration knows.
    """
    head = text[:_LEGIBLE]
    odd = sum(char == "\ufffd" or not (char.isprintable() or char == "\t") for char in head)
    if odd * 8 > len(head):
        return False
    dense = "".join(head.split())
    return len(dense) < _NOISY_FROM or len(_RUN.findall(dense)) <= _NOISY * len(dense)


def softmax(logits: Probabilities) -> Probabilities:
    """Over the last axis, in the input's type."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def _onnx(content: bytes) -> Forward:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Several passes at once use the cores better than several threads on one pass, which wait for each other.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # int8 weights become float32 once, at load, instead of at every pass (model/quantize.py says why).
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base class of their own
        raise ModelError(f"onnxruntime {onnxruntime.__version__} does not load {_ONNX}: {exc}") from exc
    (tokens,), (logits,) = session.get_inputs(), session.get_outputs()
    return lambda batch: session.run([logits.name], {tokens.name: batch})[0]


def _torchscript(content: bytes) -> Forward:
    try:
        import torch
    except ImportError as exc:
        raise ModelError("the torchscript engine needs torch: pip install 'sentinel-review[train]'") from exc
    import io
    import warnings

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would rather have torch.export
        try:
            module = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
        except RuntimeError as exc:
            raise ModelError(f"torch {torch.__version__} does not load {_TORCHSCRIPT}: {exc}") from exc

    def forward(batch: npt.NDArray[np.int64]) -> Probabilities:
        with torch.inference_mode():
            logits: Probabilities = module(torch.from_numpy(batch)).numpy()
        return logits

    return forward
