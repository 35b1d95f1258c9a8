import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sentinel.v1 import inference_pb2 as pb

from model.inputs.diff import Hunk, parse_patch
from services.claims.base import Claims
from services.claims.redis import RedisClaims
from services.claims.sqlite import SqliteClaims
from services.errors import ClaimsUnavailable, Retryable
from services.extractor.kept import KeptReviewer
from services.extractor.reviewer import MAX_CALL_LINES, Reviewed, Reviewer
from tests.redis_process import running_redis

DAY_S = 86400.0
IN_TIME_S = 5.0
REPOSITORY, FORK, SHA = 5, 6, "a" * 40
TOKENS = {"delivery-id": "guid"}
HUNKS = (
    *parse_patch("@@ -1 +1,5 @@\n-a\n+b\n+c\n+d\n+e\n+f\n@@ -20 +24 @@\n-x\n+y", "dir/a.py"),
    *parse_patch("@@ -1 +1 @@\n-a\n+b", "notes.rs"),
    *parse_patch("@@ -3 +3 @@\n-a\n+b", "b.py"),
)
_BODY = "".join(f"+{number}\n" for number in range(MAX_CALL_LINES - 1))
LARGE = tuple(
    hunk
    for name in ("a.py", "b.py", "c.py")
    for hunk in parse_patch(f"@@ -0,0 +1,{MAX_CALL_LINES - 1} @@\n{_BODY}", name)
)
"""Three files of one call each."""


class Clock:
    """Seconds that pass only by a call."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class Inference:
    """Chunks of two added lines, each with a finding on its first; no model reads Rust. Counts what it was asked."""

    def __init__(self, digest: str = "d1") -> None:
        self.served = pb.Model(name="fake", digest=digest)
        self.asked: list[list[str]] = []
        self.models_asked = 0
        self.fails_at_call = 0
        self.is_silent = False
        self.within_s: list[float] = []
        self.call_s = 0.0
        self.clock = Clock()
        self.is_older = False

    async def model(self, metadata: Mapping[str, str], *, within_s: float) -> pb.Model | None:
        assert metadata == TOKENS
        self.models_asked += 1
        return self.served if within_s > 0 and not self.is_silent else None

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        self.asked.append(list(dict.fromkeys(hunk.path for hunk in hunks)))
        self.within_s.append(within_s)
        if len(self.asked) == self.fails_at_call:
            raise Retryable("inference failed")
        if self.is_silent or within_s < self.call_s:
            return Reviewed(left=tuple(hunks), why="unreachable" if self.is_silent else "late", said="a:1: not taken")
        self.clock.now += self.call_s
        findings, read, skipped = [], [], 0
        next_index = dict.fromkeys((hunk.path for hunk in hunks), 0)
        for hunk in hunks:
            is_read = hunk.path.endswith(".py")
            added = [line.new or 0 for line in hunk.lines if line.kind == "add"]
            windows = [added[at : at + 2] for at in range(0, len(added), 2)] if is_read else []
            for at, window in enumerate(windows):
                index = next_index[hunk.path] + at
                text = f"{hunk.path}:{index} {digest_of(hunk)}"
                findings.append(pb.Finding(path=hunk.path, line=window[0], text=text, chunk_index=index))
            next_index[hunk.path] += max(1, len(windows))
            skipped += not is_read
            read.append(pb.ReadHunk(chunks=max(1, len(windows)), skipped="" if is_read else "language_not_taught"))
        counted = {"language_not_taught": skipped} if skipped else {}
        return Reviewed(tuple(findings), self.served, counted, 0.5, () if self.is_older else tuple(read))


async def ask(reviewer: Reviewer, hunks: Sequence[Hunk] = HUNKS, *, repository_id: int = REPOSITORY) -> Reviewed:
    return await reviewer.review(repository_id, SHA, hunks, TOKENS, within_s=IN_TIME_S)


def digest_of(hunk: Hunk) -> str:
    return hashlib.sha256("".join(line.text for line in hunk.lines).encode()).hexdigest()[:6]


@pytest.fixture(params=["sqlite", "redis"])
async def claims(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Claims]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            opened: Claims = SqliteClaims(tmp_path / "claims.sqlite")
        else:
            opened = RedisClaims(stack.enter_context(running_redis(tmp_path / "redis")).settings(), "sentinel")
        yield opened
        await opened.close()


def same(one: Reviewed, other: Reviewed) -> bool:
    return (one.findings, one.model, one.skipped) == (other.findings, other.model, other.skipped)


async def test_a_retry_infers_nothing_and_answers_the_same(claims: Claims):
    """By another process, as after a crash between the answer and the commit."""
    inference = Inference()
    first = await ask(KeptReviewer(inference, claims, keep_s=DAY_S))
    assert same(first, await ask(Inference()))
    assert (len(inference.asked), inference.models_asked, first.forward_s) == (1, 0, 0.5)
    again = await ask(KeptReviewer(inference, claims, keep_s=DAY_S))
    assert same(again, first)
    assert (len(inference.asked), inference.models_asked, again.forward_s) == (1, 1, 0.0)


async def test_each_chunk_has_the_key_of_its_repository_commit_file_and_index(claims: Claims):
    await ask(KeptReviewer(Inference(), claims, keep_s=DAY_S))
    keys = [f"chunk:5:{SHA}:{name}" for name in ("dir/a.py:0", "dir/a.py:1", "dir/a.py:2", "dir/a.py:3", "b.py:0")]
    values = [pb.KeptChunk.FromString(value or b"") for value in await claims.get_many(keys)]
    assert [[finding.chunk_index for finding in value.findings] for value in values] == [[0], [1], [2], [3], [0]]
    assert {value.model_digest for value in values} == {"d1"}
    assert await claims.get(f"chunk:5:{SHA}:dir/a.py:4") is None
    (skipped,) = await claims.get_many([f"chunk:5:{SHA}:notes.rs:0"])
    assert pb.KeptChunk.FromString(skipped or b"").skipped == "language_not_taught"


async def test_what_another_model_found_is_inferred_again(claims: Claims):
    await ask(KeptReviewer(Inference("d1"), claims, keep_s=DAY_S))
    newer = Inference("d2")
    for _ in range(2):
        found = await ask(KeptReviewer(newer, claims, keep_s=DAY_S))
        assert same(found, await ask(Inference("d2")))
        assert len(newer.asked) == 1


async def test_a_fork_with_the_same_commit_keeps_its_own(claims: Claims):
    inference = Inference()
    for repository_id in (REPOSITORY, FORK, REPOSITORY, FORK):
        await ask(KeptReviewer(inference, claims, keep_s=DAY_S), repository_id=repository_id)
    assert len(inference.asked) == 2


async def test_a_commit_compared_with_another_base_is_inferred_again_where_its_hunks_differ(claims: Claims):
    """A push and its pull request name the same commit and file; what they show of it need not be the same."""
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    await ask(reviewer)
    other = (*parse_patch("@@ -1 +1,2 @@\n-a\n+of another\n+base", "dir/a.py"), *HUNKS[2:])
    found = await ask(reviewer, other)
    assert inference.asked[1:] == [["dir/a.py"]]
    assert same(found, await ask(Inference(), other))


async def test_a_file_with_a_chunk_missing_is_inferred_again_and_the_others_are_not(claims: Claims):
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    first = await ask(reviewer)
    await claims.put(f"chunk:5:{SHA}:dir/a.py:2", b"\xff not a chunk", keep_s=DAY_S)
    assert same(await ask(reviewer), first)
    assert inference.asked[1:] == [["dir/a.py"]]
    assert inference.models_asked == 0


async def test_a_large_change_that_failed_in_its_second_call_goes_on_with_the_second_call(claims: Claims):
    inference = Inference()
    inference.fails_at_call = 2
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    with pytest.raises(Retryable):
        await ask(reviewer, LARGE)
    found = await ask(reviewer, LARGE)
    assert inference.asked == [["a.py"], ["b.py"], ["b.py"], ["c.py"]]
    assert [finding.path for finding in found.findings] == sorted(finding.path for finding in found.findings)
    assert len(found.findings) == 3 * (MAX_CALL_LINES // 2)


async def test_files_not_taken_in_time_are_left_and_those_answered_before_are_kept(claims: Claims):
    """Three files of one call each, of which time allows two; the next time, only the third is asked for."""
    inference = Inference()
    inference.call_s = 2.0
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S, clock=inference.clock)
    first = await ask(reviewer, LARGE)
    assert (inference.asked, inference.within_s) == ([["a.py"], ["b.py"], ["c.py"]], [5.0, 3.0, 1.0])
    assert ({finding.path for finding in first.findings}, first.forward_s) == ({"a.py", "b.py"}, 1.0)
    assert ([hunk.path for hunk in first.left], first.why, first.said) == (["c.py"], "late", "a:1: not taken")
    again = await ask(reviewer, LARGE)
    assert inference.asked[3:] == [["c.py"]]
    assert same(again, await ask(Inference(), LARGE))
    assert again.left == ()


async def test_after_a_call_not_taken_nothing_more_is_asked(claims: Claims):
    inference = Inference()
    inference.call_s = IN_TIME_S + 1
    found = await ask(KeptReviewer(inference, claims, keep_s=DAY_S, clock=inference.clock), LARGE)
    assert inference.asked == [["a.py"]]
    assert (found.left, found.why, found.findings) == (LARGE, "late", ())


async def test_what_is_kept_is_recalled_beside_what_is_left(claims: Claims):
    """A busy replica refuses the hunks, and still says which model serves."""
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S, clock=inference.clock)
    await ask(reviewer, LARGE[:2])
    inference.call_s = IN_TIME_S + 1
    found = await ask(reviewer, LARGE)
    assert {finding.path for finding in found.findings} == {"a.py", "b.py"}
    assert (found.left, found.model, inference.models_asked) == (LARGE[2:], inference.served, 1)


async def test_where_no_replica_says_which_model_serves_nothing_is_recalled_and_all_hunks_are_left(claims: Claims):
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    await ask(reviewer)
    inference.is_silent = True
    found = await ask(reviewer)
    assert (found.findings, found.model, found.skipped) == ((), None, {})
    assert (found.left, found.why, found.said) == (HUNKS, "unreachable", "a:1: not taken")


async def test_what_an_older_server_answers_is_used_and_not_kept(claims: Claims):
    inference = Inference()
    inference.is_older = True
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    for _ in range(2):
        found = await ask(reviewer)
        assert (len(found.findings), found.skipped) == (5, {"language_not_taught": 1})
    assert len(inference.asked) == 2


async def test_without_hunks_nothing_is_looked_up(claims: Claims):
    inference = Inference()
    assert (await ask(KeptReviewer(inference, claims, keep_s=DAY_S), ())).findings == ()
    assert inference.models_asked == 0


class Lost:
    def __getattr__(self, name: str) -> Any:
        async def fail(*_: object, **__: object) -> None:
            raise ClaimsUnavailable("the claims store is gone")

        return fail


class Hung:
    def __getattr__(self, name: str) -> Any:
        async def hang(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        return hang


@pytest.mark.parametrize("store", [Lost(), Hung()], ids=["lost", "hung"])
async def test_without_the_claims_a_change_is_reviewed_all_the_same(store: Any):
    inference = Inference()
    found = await ask(KeptReviewer(inference, store, keep_s=DAY_S))
    assert same(found, await ask(Inference()))
