"""Findings kept by chunk, so that a retry does not infer again: a Reviewer in front of another."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final, Protocol, TypeVar

import structlog
from google.protobuf.message import DecodeError
from sentinel.v1 import inference_pb2 as pb

from model.inputs.diff import Hunk
from services.claims.base import Claims
from services.codec import encode
from services.errors import ClaimsUnavailable
from services.extractor.reviewer import Reviewed, Reviewer, Why, calls

T = TypeVar("T")

# For what was kept, and for keeping it: without either, the review costs an inference and is the same.
_PATIENCE_S: Final = 0.5

log = structlog.get_logger(__name__)


class Inference(Reviewer, Protocol):
    async def model(self, metadata: Mapping[str, str], *, within_s: float) -> pb.Model | None:
        """The one that serves now; None where no replica says so in that time."""


@dataclass(frozen=True, slots=True)
class _Head:
    """Whose hunks they are, and what the calls carry."""

    repository_id: int
    commit_sha: str
    metadata: Mapping[str, str]

    def key(self, path: str, chunk_index: int) -> str:
        """The repository's id keeps a fork, which has the same commits, apart."""
        return f"chunk:{self.repository_id}:{self.commit_sha}:{path}:{chunk_index}"


@dataclass(frozen=True, slots=True)
class _File:
    """All hunks of one file, which are reviewed in one call. digest: of what the model is shown."""

    path: str
    hunks: tuple[Hunk, ...]
    digest: bytes


@dataclass(slots=True)
class _Found:
    """What the files so far came to. left: hunks that inference did not take in time, and why."""

    findings: list[pb.Finding] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    model: pb.Model | None = None
    forward_s: float = 0.0
    left: list[Hunk] = field(default_factory=list)
    why: Why = "busy"
    said: str = ""


class KeptReviewer:
    """Asks `inference` for those files of a commit only whose chunks are not all kept, from the model that serves now.

    A large change that failed in its third call goes on with the third call. What is kept is used where a replica says
    in time which model serves; the time is for inference alone, and begins when the claims were asked.
    """

    def __init__(
        self, inference: Inference, claims: Claims, *, keep_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inference, self._claims, self._keep_s, self._clock = inference, claims, keep_s, clock

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        if not hunks:
            return await self._inference.review(repository_id, commit_sha, hunks, metadata, within_s=within_s)
        files = await asyncio.to_thread(_files, hunks)
        head, found = _Head(repository_id, commit_sha, metadata), _Found()
        kept = await self._recall(head, files)
        deadline = self._clock() + within_s
        await self._infer(head, [file for file in files if file.path not in kept], found, deadline)
        if kept:
            model = found.model or await self._inference.model(metadata, within_s=self._left_s(deadline))
            digest = None if model is None else model.digest
            of_another = {path for path, chunks in kept.items() if chunks[0].model_digest != digest}
            await self._infer(head, [file for file in files if file.path in of_another], found, deadline)
            used = [chunks for path, chunks in kept.items() if path not in of_another]
            for chunks in used:
                ordered = sorted((each for chunk in chunks for each in chunk.findings), key=lambda each: each.line)
                found.findings += ordered
                found.skipped.update(chunk.skipped for chunk in chunks if chunk.skipped)
            found.model = found.model or model
            log.info("chunks.recalled", commit=commit_sha, files=len(used), of=len(files), chunks=sum(map(len, used)))
        order = {file.path: at for at, file in enumerate(files)}
        found.findings.sort(key=lambda finding: order.get(finding.path, len(order)))
        return Reviewed(
            tuple(found.findings),
            found.model,
            found.skipped,
            found.forward_s,
            left=tuple(found.left),
            why=found.why,
            said=found.said,
        )

    async def _infer(self, head: _Head, files: Sequence[_File], found: _Found, deadline: float) -> None:
        """Call by call, so that what one has answered is kept although the next one fails; none after one not taken."""
        by_path = {file.path: file for file in files}
        for part in calls([hunk for file in files for hunk in file.hunks]):
            if found.left:
                found.left += part
                continue
            reviewed = await self._inference.review(
                head.repository_id, head.commit_sha, part, head.metadata, within_s=self._left_s(deadline)
            )
            if reviewed.left:
                found.left, found.why, found.said = list(part), reviewed.why, reviewed.said
                continue
            found.findings += reviewed.findings
            found.skipped.update(reviewed.skipped or {})
            found.model, found.forward_s = reviewed.model, found.forward_s + reviewed.forward_s
            await self._keep(head, [by_path[path] for path in dict.fromkeys(hunk.path for hunk in part)], reviewed)

    def _left_s(self, deadline: float) -> float:
        return max(0.0, deadline - self._clock())

    async def _recall(self, head: _Head, files: Sequence[_File]) -> dict[str, list[pb.KeptChunk]]:
        """By path, all chunks of each file of which every chunk is kept, by one model and of these very hunks."""
        firsts = await self._patiently("recall", self._claims.get_many([head.key(file.path, 0) for file in files]))
        begun = [
            (file, first)
            for file, first in zip(files, map(_read, firsts or ()), strict=False)
            if first is not None and first.file_digest == file.digest
        ]
        others = [head.key(file.path, index) for file, first in begun for index in range(1, first.file_chunks)]
        values = iter((await self._patiently("recall", self._claims.get_many(others)) if others else []) or ())
        kept: dict[str, list[pb.KeptChunk]] = {}
        for file, first in begun:
            chunks = [first, *(_read(next(values, None)) for _ in range(1, first.file_chunks))]
            whole = [chunk for chunk in chunks if chunk is not None and _is_beside(chunk, first)]
            if len(whole) == len(chunks):
                kept[file.path] = whole
        return kept

    async def _keep(self, head: _Head, files: Sequence[_File], reviewed: Reviewed) -> None:
        """Nothing where the server is older than this and does not say how it numbered the chunks."""
        model = reviewed.model
        if model is None or not model.digest or len(reviewed.hunks) != sum(len(file.hunks) for file in files):
            return
        read = iter(reviewed.hunks)
        found: dict[str, list[pb.Finding]] = {file.path: [] for file in files}
        for finding in reviewed.findings:
            found.setdefault(finding.path, []).append(finding)
        values: dict[str, bytes] = {}
        for file in files:
            chunks = _chunks(file, [next(read) for _ in file.hunks], found[file.path], model.digest)
            values |= {head.key(file.path, index): encode(chunk) for index, chunk in enumerate(chunks)}
        await self._patiently("keep", self._claims.put_many(values, keep_s=self._keep_s))

    async def _patiently(self, operation: str, answer: Awaitable[T]) -> T | None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await answer
        except (ClaimsUnavailable, TimeoutError) as exc:
            said = str(exc) or f"no answer within {_PATIENCE_S:g} s"
            log.warning("claims.unavailable", operation=operation, error=said)
            return None


def _files(hunks: Sequence[Hunk]) -> list[_File]:
    return [
        _File(path, own := tuple(group), _digest(own)) for path, group in groupby(hunks, key=lambda hunk: hunk.path)
    ]


def _digest(hunks: Iterable[Hunk]) -> bytes:
    """The same commit is compared with several bases: with the push before it, and with its pull request's."""
    found = hashlib.sha256()
    for hunk in hunks:
        lines = "\n".join(f"{line.kind} {line.text}" for line in hunk.lines)
        found.update(f"@ {hunk.old_start} {hunk.new_start} {hunk.section}\n{lines}\n".encode())
    return found.digest()


def _chunks(
    file: _File, read: Sequence[pb.ReadHunk], findings: Iterable[pb.Finding], model_digest: str
) -> list[pb.KeptChunk]:
    """All chunks of the file, by their index; none at all where the answer contradicts itself."""
    count = sum(hunk.chunks for hunk in read)
    if any(hunk.chunks < 1 for hunk in read):
        return []
    chunks = [pb.KeptChunk(model_digest=model_digest, file_digest=file.digest, file_chunks=count) for _ in range(count)]
    index = 0
    for hunk in read:
        chunks[index].skipped = hunk.skipped
        index += hunk.chunks
    for finding in findings:
        if not 0 <= finding.chunk_index < count:
            return []
        chunks[finding.chunk_index].findings.append(finding)
    return chunks


def _read(value: bytes | None) -> pb.KeptChunk | None:
    try:
        return None if value is None else pb.KeptChunk.FromString(value)
    except DecodeError:
        return None


def _is_beside(chunk: pb.KeptChunk, first: pb.KeptChunk) -> bool:
    return (chunk.model_digest, chunk.file_digest) == (first.model_digest, first.file_digest)
