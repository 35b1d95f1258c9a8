import hashlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sentinelctl.bench.changes import Changes, make_history
from sentinelctl.demo.history import read_history
from sentinelctl.errors import UsageError
from sentinelctl.fakehub.git import Git
from sentinelctl.fakehub.hub import FakeHub


@contextmanager
def served(folder: Path, *, commits: int, copies: int = 2, files: int = 1, pulls: bool = False) -> Iterator[Changes]:
    make_history(folder / "made.git", commits, files=files)
    hub = FakeHub([folder / "made.git"], copies=copies)
    yield Changes(hub, read_history(folder / "made.git", commits).pushes, "s3cret", pulls=pulls)


def test_a_made_history_is_the_same_everywhere_and_each_commit_changes_eight_lines_of_each_file(tmp_path: Path) -> None:
    make_history(tmp_path / "one.git", 3, files=2)
    make_history(tmp_path / "two.git", 3, files=2)
    one, two = Git(tmp_path / "one.git"), Git(tmp_path / "two.git")
    assert one.tip == two.tip
    pushes = read_history(tmp_path / "one.git", 3).pushes
    assert len(pushes) == 3
    for push in pushes:
        files = one.diff(push.before, push.after)
        assert len(files) == 2
        assert {(str(file.patch).count("\n@@"), file.additions, file.deletions) for file in files} == {(0, 8, 8)}


def test_each_delivery_asks_for_a_review_of_its_own_and_is_signed(tmp_path: Path) -> None:
    with served(tmp_path, commits=3) as changes:
        taken = changes.take(4) + changes.take(2)
    assert len({change.unit for change in taken}) == 6
    assert taken[0].unit.repository_id != taken[1].unit.repository_id
    for change in taken:
        head, _, body = change.request.raw("d-1").partition(b"\r\n\r\n")
        digest = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert f"X-Hub-Signature-256: sha256={digest}".encode() in head
        payload = json.loads(body)
        assert (payload["repository"]["id"], payload["after"]) == (change.unit.repository_id, change.unit.sha)


def test_a_pull_request_s_head_comes_to_its_repository_once(tmp_path: Path) -> None:
    with served(tmp_path, commits=2, files=3, pulls=True) as changes:
        taken = changes.take(4)
    assert len({(change.unit.repository_id, change.unit.sha) for change in taken}) == 4
    assert [change.unit.number for change in taken] == [1, 1, 2, 2]
    assert all(b"X-GitHub-Event: pull_request" in change.request.raw("d") for change in taken)


def test_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with served(tmp_path, commits=2) as changes, pytest.raises(UsageError, match="2 commits, over 2 repositories 4"):
        changes.take(5)
