"""Hunks to findings, for whoever brings them: a call over gRPC, or a record of `diff-chunks`."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sentinel.v1 import inference_pb2 as pb

from model.engine import Engine, Finding
from model.inputs.chunk import Chunk
from model.inputs.diff import DiffError, Hunk, LineKind, number_lines
from services.inference.batcher import Batcher, Clock, Scored
from services.telemetry import Metrics

_KINDS: Final[dict[int, LineKind]] = {
    pb.Line.KIND_CONTEXT: "ctx",
    pb.Line.KIND_ADDED: "add",
    pb.Line.KIND_DELETED: "del",
}


class Malformed(ValueError):
    """A request that says something impossible; the message opens with the field."""


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What one request came to. Findings are in the order of the hunks, each with the chunk of its file."""

    findings: tuple[pb.Finding, ...]
    hunks: tuple[pb.ReadHunk, ...]
    scored: Scored

    @property
    def skipped(self) -> Counter[str]:
        """Hunks that no model read, by reason."""
        return Counter(hunk.skipped for hunk in self.hunks if hunk.skipped)


class Reviewer:
    def __init__(self, engine: Engine, batcher: Batcher, metrics: Metrics, clock: Clock) -> None:
        self._engine, self._batcher, self._metrics, self._clock = engine, batcher, metrics, clock
        info = engine.info
        self.model = pb.Model(name=info.name, version=info.version, digest=info.digest)

    async def review(self, hunks: Sequence[Hunk], *, within_s: float | None = None, first_index: int = 0) -> Reviewed:
        """Raises Overloaded at once, DeadlinePassed later, and whatever the engine raises."""
        started = self._clock.time()
        windows = await asyncio.to_thread(lambda: [self._engine.encode(hunk) for hunk in hunks])
        scored = await self._batcher.submit(
            [chunk for window in windows for chunk in window], None if within_s is None else started + within_s
        )
        findings = await asyncio.to_thread(_findings, self._engine, hunks, windows, scored, first_index)
        read = tuple(
            pb.ReadHunk(chunks=_count(window), skipped=self._engine.skip_reason(hunk) or "")
            for hunk, window in zip(hunks, windows, strict=True)
        )
        self._metrics.inference_latency.observe(self._clock.time() - started)
        return Reviewed(tuple(findings), read, scored)


def numbered(messages: Iterable[pb.Hunk]) -> list[Hunk]:
    """Hunks with line numbers. Raises Malformed naming the field."""
    hunks = []
    for at, message in enumerate(messages):
        if not message.path:
            raise Malformed(f"hunks[{at}].path: empty; give the file's path")
        lines: list[tuple[LineKind, str]] = []
        for row, line in enumerate(message.lines):
            kind = _KINDS.get(line.kind)
            if kind is None:
                raise Malformed(f"hunks[{at}].lines[{row}].kind: {line.kind} is none of context, added, deleted")
            if "\n" in line.text:
                raise Malformed(f"hunks[{at}].lines[{row}].text: holds a newline; give one line each")
            lines.append((kind, line.text))
        old, new = (message.old_start, message.old_lines), (message.new_start, message.new_lines)
        try:
            hunks.append(number_lines(message.path, old, new, message.section, lines))
        except DiffError as exc:
            raise Malformed(f"hunks[{at}]: {exc}") from exc
    return hunks


def _findings(
    engine: Engine, hunks: Sequence[Hunk], windows: Sequence[tuple[Chunk, ...]], scored: Scored, first_index: int
) -> list[pb.Finding]:
    """Findings with the index of their chunk, counted through the hunks of a file."""
    found: list[pb.Finding] = []
    scores = iter(scored.scores)
    next_index: Counter[str] = Counter()
    for hunk, window in zip(hunks, windows, strict=True):
        base = first_index + next_index[hunk.path]
        index = {hunk.lines[at].new: base + n for n, chunk in enumerate(window) for at in chunk.lines}
        found += [
            _message(finding, index.get(finding.line, base))
            for finding in engine.findings(hunk, window, [next(scores) for _ in window])
        ]
        next_index[hunk.path] += _count(window)
    return found


def _count(window: Sequence[Chunk]) -> int:
    """A hunk that no model reads is one chunk: rules may have read it."""
    return max(1, len(window))


def _message(finding: Finding, chunk_index: int) -> pb.Finding:
    return pb.Finding(
        path=finding.path,
        line=finding.line,
        side=finding.side,
        concept=finding.concept,
        title=finding.title,
        text=finding.text,
        category=finding.category,
        severity=finding.severity,
        confidence=finding.confidence,
        is_shown=finding.is_shown,
        chunk_index=chunk_index,
    )
