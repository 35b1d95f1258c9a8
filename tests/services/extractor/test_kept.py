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
from services.errors import ClaimsUnavailable, Deferred
from services.extractor.kept import KeptReviewer
from services.extractor.reviewer import MAX_CALL_LINES, Reviewed
from tests.redis_process import running_redis

DAY_S = 86400.0
REPOSITORY, FORK, SHA = 5, 6, "a" * 40
TOKENS = {"delivery-id": "guid"}
HUNKS = (
    *parse_patch("@@ -1 +1,5 @@\n-a\n+b\n+c\n+d\n+e\n+f\n@@ -20 +24 @@\n-x\n+y", "dir/a.py"),
    *parse_patch("@@ -1 +1 @@\n-a\n+b", "notes.rs"),
    *parse_patch("@@ -3 +3 @@\n-a\n+b", "b.py"),
)


class Inference:
    """Chunks of two added lines, each with a finding on its first; no model reads Rust. Counts what it was asked."""

    def __init__(self, digest: str = "d1") -> None:
        self.served = pb.Model(name="fake", digest=digest)
        self.asked: list[list[str]] = []
        self.models_asked = 0
        self.fails_at_call = 0
        self.is_older = False

    async def model(self, metadata: Mapping[str, str]) -> pb.Model:
        assert metadata == TOKENS
        self.models_asked += 1
        return self.served

    async def review(
        self, repository_id: int, commit_sha: str, hunks: Sequence[Hunk], metadata: Mapping[str, str]
    ) -> Reviewed:
        self.asked.append(list(dict.fromkeys(hunk.path for hunk in hunks)))
        if len(self.asked) == self.fails_at_call:
            raise Deferred("inference is gone")
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
    first = await KeptReviewer(inference, claims, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
    assert same(first, await Inference().review(REPOSITORY, SHA, HUNKS, TOKENS))
    assert (len(inference.asked), inference.models_asked, first.forward_s) == (1, 0, 0.5)
    again = await KeptReviewer(inference, claims, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
    assert same(again, first)
    assert (len(inference.asked), inference.models_asked, again.forward_s) == (1, 1, 0.0)


async def test_each_chunk_has_the_key_of_its_repository_commit_file_and_index(claims: Claims):
    await KeptReviewer(Inference(), claims, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
    keys = [f"chunk:5:{SHA}:{name}" for name in ("dir/a.py:0", "dir/a.py:1", "dir/a.py:2", "dir/a.py:3", "b.py:0")]
    values = [pb.KeptChunk.FromString(value or b"") for value in await claims.get_many(keys)]
    assert [[finding.chunk_index for finding in value.findings] for value in values] == [[0], [1], [2], [3], [0]]
    assert {value.model_digest for value in values} == {"d1"}
    assert await claims.get(f"chunk:5:{SHA}:dir/a.py:4") is None
    (skipped,) = await claims.get_many([f"chunk:5:{SHA}:notes.rs:0"])
    assert pb.KeptChunk.FromString(skipped or b"").skipped == "language_not_taught"


async def test_what_another_model_found_is_inferred_again(claims: Claims):
    await KeptReviewer(Inference("d1"), claims, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
    newer = Inference("d2")
    for _ in range(2):
        found = await KeptReviewer(newer, claims, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
        assert same(found, await Inference("d2").review(REPOSITORY, SHA, HUNKS, TOKENS))
        assert len(newer.asked) == 1


async def test_a_fork_with_the_same_commit_keeps_its_own(claims: Claims):
    inference = Inference()
    for repository_id in (REPOSITORY, FORK, REPOSITORY, FORK):
        await KeptReviewer(inference, claims, keep_s=DAY_S).review(repository_id, SHA, HUNKS, TOKENS)
    assert len(inference.asked) == 2


async def test_a_commit_compared_with_another_base_is_inferred_again_where_its_hunks_differ(claims: Claims):
    """A push and its pull request name the same commit and file; what they show of it need not be the same."""
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    await reviewer.review(REPOSITORY, SHA, HUNKS, TOKENS)
    other = (*parse_patch("@@ -1 +1,2 @@\n-a\n+of another\n+base", "dir/a.py"), *HUNKS[2:])
    found = await reviewer.review(REPOSITORY, SHA, other, TOKENS)
    assert inference.asked[1:] == [["dir/a.py"]]
    assert same(found, await Inference().review(REPOSITORY, SHA, other, TOKENS))


async def test_a_file_with_a_chunk_missing_is_inferred_again_and_the_others_are_not(claims: Claims):
    inference = Inference()
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    first = await reviewer.review(REPOSITORY, SHA, HUNKS, TOKENS)
    await claims.put(f"chunk:5:{SHA}:dir/a.py:2", b"\xff not a chunk", keep_s=DAY_S)
    assert same(await reviewer.review(REPOSITORY, SHA, HUNKS, TOKENS), first)
    assert inference.asked[1:] == [["dir/a.py"]]
    assert inference.models_asked == 0


async def test_a_large_change_that_failed_in_its_second_call_goes_on_with_the_second_call(claims: Claims):
    body = "".join(f"+{number}\n" for number in range(MAX_CALL_LINES - 1))
    large = [
        hunk
        for name in ("a.py", "b.py", "c.py")
        for hunk in parse_patch(f"@@ -0,0 +1,{MAX_CALL_LINES - 1} @@\n{body}", name)
    ]
    inference = Inference()
    inference.fails_at_call = 2
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    with pytest.raises(Deferred):
        await reviewer.review(REPOSITORY, SHA, large, TOKENS)
    found = await reviewer.review(REPOSITORY, SHA, large, TOKENS)
    assert inference.asked == [["a.py"], ["b.py"], ["b.py"], ["c.py"]]
    assert [finding.path for finding in found.findings] == sorted(finding.path for finding in found.findings)
    assert len(found.findings) == 3 * (MAX_CALL_LINES // 2)


async def test_what_an_older_server_answers_is_used_and_not_kept(claims: Claims):
    inference = Inference()
    inference.is_older = True
    reviewer = KeptReviewer(inference, claims, keep_s=DAY_S)
    for _ in range(2):
        found = await reviewer.review(REPOSITORY, SHA, HUNKS, TOKENS)
        assert (len(found.findings), found.skipped) == (5, {"language_not_taught": 1})
    assert len(inference.asked) == 2


async def test_without_hunks_nothing_is_looked_up(claims: Claims):
    inference = Inference()
    assert (await KeptReviewer(inference, claims, keep_s=DAY_S).review(REPOSITORY, SHA, (), TOKENS)).findings == ()
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
    found = await KeptReviewer(inference, store, keep_s=DAY_S).review(REPOSITORY, SHA, HUNKS, TOKENS)
    assert same(found, await Inference().review(REPOSITORY, SHA, HUNKS, TOKENS))
