"""The client against fakehub, which shares no code with it: paths, pages, anchors and tokens as GitHub has them."""

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.hub import APP_ID, INSTALLATION_ID, FakeHub
from services.github.client import PER_PAGE, GitHub
from services.github.types import GitHubNotFound, GitHubRejected, GitHubUnavailable, InlineComment, Repo
from services.settings import GitHubSettings
from services.telemetry import Metrics

MANY = 130


def git(path: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", "-C", str(path), *identity, *arguments], env=environ, capture_output=True, check=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two commits on main: one file, then MANY more files and a changed line."""
    path = tmp_path / "sample"
    path.mkdir()
    git(path, "init", "--quiet", "--initial-branch=main")
    (path / "a.py").write_text("one\ntwo\n")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "-m", "first")
    (path / "a.py").write_text("one\n2\n")
    for number in range(MANY):
        (path / f"many-{number:03}.txt").write_text("text\n")
    git(path, "add", "--all")
    git(path, "commit", "--quiet", "-m", "second")
    return path


@pytest.fixture
def hub(path: Path) -> FakeHub:
    return FakeHub([path], token="s3cret")


@pytest.fixture
def repo(hub: FakeHub) -> Repo:
    return Repo(hub.repositories[0].full_name)


def connect(hub: FakeHub, **settings: Any) -> GitHub:
    wanted = GitHubSettings.model_validate({"api_url": hub.base_url, "token": "s3cret", **settings})
    return GitHub(wanted, Metrics(), transport=httpx2.ASGITransport(create_app(hub)))


async def test_a_pull_request_and_all_pages_of_its_files(hub: FakeHub, repo: Repo) -> None:
    made = hub.create_pull(hub.repositories[0], base="main~1", head="main", head_ref="topic")
    async with connect(hub) as github:
        pull = await github.pull(repo, made.number)
        files = await github.pull_files(repo, made.number)
        again = await github.pull(repo, made.number)
    assert (pull.state, pull.head_sha, pull.head_ref) == ("open", made.head_sha, "topic")
    assert pull.head_repository_id == hub.repositories[0].id
    assert pull.changed_files == len(files) == MANY + 1
    assert files[0].patch == "@@ -1,2 +1,2 @@\n one\n-two\n+2"
    assert again == pull


async def test_the_open_pull_requests_of_a_branch(hub: FakeHub, repo: Repo) -> None:
    hub.create_pull(hub.repositories[0], base="main~1", head="main", head_ref="feature/x")
    async with connect(hub) as github:
        assert [pull.head_ref for pull in await github.pulls_of_branch(repo, "feature/x")] == ["feature/x"]
        assert await github.pulls_of_branch(repo, "main") == ()


async def test_a_comparison_and_a_commit_show_the_same_files(hub: FakeHub, repo: Repo, path: Path) -> None:
    before, after = git(path, "rev-parse", "main~1"), git(path, "rev-parse", "main")
    async with connect(hub) as github:
        comparison = await github.compare(repo, before, after)
        assert (comparison.status, len(comparison.files)) == ("ahead", MANY + 1)
        assert comparison.files == await github.commit_files(repo, after)
        assert (await github.compare(repo, "main", after)).status == "identical"
        with pytest.raises(GitHubNotFound):
            await github.compare(repo, "1" * 40, after)


async def test_a_review_is_posted_found_again_and_refused_on_a_wrong_line(hub: FakeHub, repo: Repo) -> None:
    made = hub.create_pull(hub.repositories[0], base="main~1", head="main")
    async with connect(hub) as github:
        good = [InlineComment("a.py", 2, "RIGHT", "look"), InlineComment("a.py", 2, "LEFT", "was better")]
        posted = await github.create_review(repo, made.number, commit_sha=made.head_sha, body="seen", comments=good)
        (found,) = await github.reviews(repo, made.number)
        assert (found.id, found.body, found.commit_sha) == (posted.id, "seen", made.head_sha)
        bad = [InlineComment("a.py", 99, "RIGHT", "nowhere")]
        with pytest.raises(GitHubRejected) as caught:
            await github.create_review(repo, made.number, commit_sha=made.head_sha, body="seen", comments=bad)
    assert caught.value.status == 422
    assert caught.value.errors


async def test_a_comment_on_a_commit_is_posted_and_found_again(hub: FakeHub, repo: Repo, path: Path) -> None:
    sha = git(path, "rev-parse", "main")
    async with connect(hub) as github:
        posted = await github.create_commit_comment(repo, sha, body="seen")
        assert [comment.id for comment in await github.commit_comments(repo, sha)] == [posted.id]


async def test_line_comments_of_all_pull_requests_by_page_since_and_etag(hub: FakeHub, repo: Repo) -> None:
    made = hub.create_pull(hub.repositories[0], base="main~1", head="main")
    async with connect(hub) as github:
        said = [InlineComment("a.py", 2, "RIGHT", str(number)) for number in range(PER_PAGE + 1)]
        await github.create_review(repo, made.number, commit_sha=made.head_sha, body="seen", comments=said)
        first = await github.review_comments(repo)
        second = await github.review_comments(repo, page=2, since=first.comments[0].updated_at)
        again = await github.review_comments(repo, page=2, since=first.comments[0].updated_at, etag=second.etag)
        assert (await github.review_comments(repo, since="2999-01-01T00:00:00Z")).comments == ()
    assert [each.body for each in (*first.comments, *second.comments)] == [each.body for each in said]
    assert (first.has_next, second.has_next) == (True, False)
    assert (again.is_unchanged, again.comments, again.etag) == (True, (), second.etag)
    one = first.comments[0]
    assert (one.path, one.line, one.side, one.original_commit_id) == ("a.py", 2, "RIGHT", made.head_sha)
    assert one.diff_hunk.endswith("+2")
    assert one.user is not None
    assert one.user.type == "User"


async def test_an_app_gets_a_token_for_its_installation(hub: FakeHub, repo: Repo) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    hub.app_public_key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    async with connect(hub, token="", app_id=APP_ID, app_key=pem) as github:
        assert await github.pulls_of_branch(Repo(repo.full_name, INSTALLATION_ID), "main") == ()
        with pytest.raises(GitHubNotFound):
            await github.pulls_of_branch(Repo(repo.full_name, INSTALLATION_ID + 1), "main")


async def test_wrong_credentials_put_the_record_off(hub: FakeHub, repo: Repo) -> None:
    async with connect(hub, token="wrong") as github:
        with pytest.raises(GitHubUnavailable, match="SENTINEL_GITHUB_TOKEN"):
            await github.pulls_of_branch(repo, "main")
