"""A client that nobody here wrote: @octokit/rest lists a pull request's files and posts a review on fakehub."""

import json
import subprocess
from pathlib import Path

from sentinelctl.fakehub.server import running_fakehub
from tests.sentinelctl.fakehub.conftest import new_workshop

from .material import Material

SCRIPT = Path(__file__).with_name("review.mjs")
MANY = 230


def test_octokit_pages_through_the_files_and_posts_a_review(material: Material, tmp_path: Path) -> None:
    shop = new_workshop(tmp_path / "sample")
    shop.commit("first", {"a.txt": b"a\n"})
    shop.commit("second", {f"many/{number:03}.txt": b"x\n" for number in range(MANY)})
    with running_fakehub([shop.path], token="s3cret") as running:
        pull = running.hub.create_pull(running.hub.repositories[0], base="main~1", head="main")
        done = subprocess.run(
            ["node", str(SCRIPT), running.url, "s3cret", "local/sample", str(pull.number)],
            cwd=material.folder,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        (review,) = running.hub.visible()
        pages = [one.path for one in running.hub.requests if one.path.endswith("/files")]
    assert json.loads(done.stdout) == {
        "files": MANY,
        "review": review["id"],
        "listed": [review["id"]],
        "refused": 422,
        "errors": [
            (
                "Pull request review thread line must be part of the diff and "
                "Pull request review thread diff hunk can't be blank"
            )
        ],
    }
    assert [one["body"] for one in review["comments"]] == ["from octokit"]
    assert pages == ["/repos/local/sample/pulls/1/files", *["/repositories/700000001/pulls/1/files"] * 2]
