"""From a repository to comments on its lines: extractor and publisher against fakehub, which takes no wrong line."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx2
import pytest
from sentinel.v1.events_pb2 import Event, PullRequestEvent, PushEvent, Repository
from sentinel.v1.inference_pb2 import Finding

from model.inputs.diff import Hunk
from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.hub import FakeHub
from services.claims.sqlite import SqliteClaims
from services.contract import Topic
from services.extractor.handler import Handler as Extractor
from services.extractor.reviewer import Reviewed
from services.github.client import GitHub
from services.publisher.handler import Handler as Publisher
from services.settings import ClaimsSettings, ExtractorSettings, GitHubSettings, PublisherSettings
from services.stream.types import Record
from services.telemetry import Metrics
from tests.sentinelctl.fakehub.conftest import Workshop, lines, new_workshop
from tests.services.extractor.fakes import FakeLook, FakeProducer

BEFORE: Mapping[str | bytes, bytes | None] = {
    "no_newline.py": b"one\ntwo",
    "crlf.py": b"one\r\ntwo\r\n",
    "old name.py": lines(1, 40),
    "gone.py": lines(1, 3),
    "data.py": b"\0\1",
    "run.sh": b"echo\n",
    "link": b"text\n",
    "-- a.py": b"x\n",
    "late_nul.py": lines(1, 2000) + b"\0\n",
}
AFTER: Mapping[str | bytes, bytes | None] = {
    "no_newline.py": b"one\n2",
    "crlf.py": b"one\r\n2\r\n\r\n",
    "old name.py": None,
    "a folder/new name.py": lines(1, 20) + b"added\n" + lines(21, 40),
    "gone.py": None,
    "data.py": b"\0\2",
    "-- a.py": b"-- a\n++ b\n@@ -1 +1 @@\n\\ No newline\n",
    "late_nul.py": lines(1, 2000) + b"\0\nafter\n",
    "empty.py": b"",
    "a b/b b.py": b"x\n",
    'q"uote\t\\.py': b"x\n",
    "ünï/日本.py": b"form\x0cfeed\n\xe2\x80\xa8 one line\n\r\r\n",
    b"caf\xe9.py": b"caf\xe9\n",
    "long.py": lines(1, 19_990),
    "too_long.py": lines(1, 20_010),
}
# GitHub's list tells a changed mode (run.sh) from changed binary content by nothing.
SKIPPED = {"binary": 2, "too_large": 2}
REVIEWED = 12


class Remarks:
    """A reviewer with something to say on every added line."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, int], str] = {}

    async def review(
        self,
        repository_id: int,
        commit_sha: str,
        hunks: Sequence[Hunk],
        metadata: Mapping[str, str],
        *,
        within_s: float,
    ) -> Reviewed:
        added = [(hunk.path, line) for hunk in hunks for line in hunk.lines if line.kind == "add"]
        self.texts |= {(path, line.new or 0): line.text for path, line in added}
        remark = {"side": "RIGHT", "title": "T", "severity": "bug", "confidence": 0.9, "is_shown": True}
        return Reviewed(tuple(Finding(path=path, line=line.new, **remark) for path, line in added))


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = new_workshop(tmp_path / "odd")
    shop.commit("first", BEFORE)
    shop.write(AFTER)
    (shop.path / "run.sh").chmod(0o755)
    (shop.path / "link").unlink()
    (shop.path / "link").symlink_to("target")
    shop.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    shop.commit("second")
    return shop


@pytest.mark.parametrize("kind", ["pull_request", "push"])
async def test_every_odd_change_is_reviewed_on_its_lines_or_counted(shop: Workshop, tmp_path: Path, kind: str) -> None:
    before, head = shop.git("rev-parse", "HEAD~1", "HEAD").split()
    hub, metrics, remarks = FakeHub([shop.path]), Metrics(), Remarks()
    served = hub.repositories[0]
    event = Event(
        delivery_id="d-1",
        repository=Repository(id=served.id, full_name=served.full_name, default_branch="main"),
        received_at_ns=time.time_ns(),
    )
    if kind == "push":
        event.push.CopyFrom(PushEvent(ref="refs/heads/main", before=before, after=head))
    else:
        pull = hub.create_pull(served, base=before, head=head)
        event.pull_request.CopyFrom(PullRequestEvent(number=pull.number, action="opened", head_sha=head))
    claims = SqliteClaims(tmp_path / "claims.sqlite", clock=lambda: 0.0)
    wanted = GitHubSettings.model_validate({"api_url": hub.base_url, "token": "any"})
    async with GitHub(wanted, metrics, transport=httpx2.ASGITransport(create_app(hub))) as github:
        extractor = Extractor(
            github, FakeLook(), remarks, FakeProducer(), ExtractorSettings(), metrics, max_record_bytes=900_000
        )
        (ready,) = await extractor.handle(Record(Topic.PUSH_EVENTS, 0, 0, b"", event.SerializeToString(), {}, 0))
        publisher = Publisher(
            github, claims, metrics, settings=PublisherSettings(max_comments=50), claims_settings=ClaimsSettings()
        )
        record = Record(Topic.REVIEWS, 0, 0, b"", ready.value, {}, 0)
        await publisher.handle(record)
        await publisher.handle(record)
    await claims.close()

    (shown,) = hub.visible()
    assert shown["body"].startswith(f"{REVIEWED} of {REVIEWED + sum(SKIPPED.values())} hunks reviewed, ")
    for reason, count in SKIPPED.items():
        assert f"{reason.replace('_', ' ')} {count}" in shown["body"]
    for (path, number), text in remarks.texts.items():
        name = path.replace("\ufffd", os.fsdecode(b"\xe9"))
        content = shop.path / name
        stored = content.readlink().as_posix().encode() if content.is_symlink() else content.read_bytes()
        if path != "module":
            assert stored.split(b"\n")[number - 1].decode(errors="replace") == text
    places = {(comment["path"], comment["line"]) for comment in shown["comments"]}
    anchored = {place for place in remarks.texts if "\ufffd" not in place[0]} if kind == "pull_request" else set()
    assert places == anchored
