"""Calls of the inference server from the hunks of real commits, and what its metrics say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from sentinel.v1.inference_pb2 import ReviewChunksRequest

from model.engine import Engine, ModelError, load_engine
from model.inputs.diff import DiffError, Hunk, parse_diff
from sentinelctl.demo.history import read_history
from sentinelctl.errors import SentinelError
from sentinelctl.review.change import Git
from services.contract import NULL_SHA
from services.review import hunk_message
from services.settings import Settings


@dataclass(frozen=True, slots=True)
class Call:
    """The hunks of one call, about a batch of chunks, and what they come to."""

    hunks: tuple[Hunk, ...]
    chunks: int
    tokens: int

    @property
    def request(self) -> ReviewChunksRequest:
        return ReviewChunksRequest(repository_id=1, hunks=[hunk_message(hunk) for hunk in self.hunks])


def loaded(settings: Settings) -> Engine:
    """The engine of the settings. Raises SentinelError where it cannot be had."""
    own = settings.inference
    try:
        return load_engine(own.engine, Path(own.weights).expanduser() if own.weights else None, own.threads or None)
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc


def pack(engine: Engine, hunks: Sequence[Hunk], batch: int) -> list[Call]:
    """Calls of `batch` chunks, or up to one hunk more. Left out: hunks that the model does not read, and the rest."""
    calls: list[Call] = []
    taken: list[Hunk] = []
    chunks = tokens = 0
    for hunk in hunks:
        windows = engine.encode(hunk)
        if not windows:
            continue
        taken.append(hunk)
        chunks += len(windows)
        tokens += sum(len(row) for window in windows for row in window.rows)
        if chunks >= batch:
            calls.append(Call(tuple(taken), chunks, tokens))
            taken, chunks, tokens = [], 0, 0
    return calls or ([Call(tuple(taken), chunks, tokens)] if taken else [])


def hunks_of(repo: Path) -> list[Hunk]:
    """Of the last commits, oldest first."""
    git, found = Git(repo), list[Hunk]()
    for push in read_history(repo, 200).pushes:
        before = git.empty_tree() if push.before == NULL_SHA else push.before
        try:
            found += [hunk for file in parse_diff(git.diff(before, push.after)) for hunk in file.hunks]
        except DiffError:
            continue
    return found


def batches(metrics_port: int) -> tuple[float, float]:
    """(chunks, forward passes) so far, from the server's own histogram."""
    with urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = dict(line.rsplit(" ", 1) for line in lines if line.startswith("sentinel_batch_size_"))
    return float(found["sentinel_batch_size_sum"]), float(found["sentinel_batch_size_count"])


def mean_batch(after: tuple[float, float], before: tuple[float, float] = (0.0, 0.0)) -> float:
    """Chunks of a forward pass; 0.0 where there was none."""
    passes = after[1] - before[1]
    return (after[0] - before[0]) / passes if passes else 0.0
