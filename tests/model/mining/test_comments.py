import gzip
import json
import lzma
from pathlib import Path

import pytest

from model.dataset import DataError
from model.mining.comments import Comment, comment_of, is_bot, kept, latest, line_of, read
from model.mining.private import drop_secrets

# As GitHub's REST API returns one, reduced to what is read.
GITHUB = {
    "id": 7,
    "pull_request_url": "https://api.github.com/repos/octo/hello/pulls/12",
    "path": "src/a.py",
    "diff_hunk": "@@ -1 +1,2 @@\n one\n+two",
    "line": None,
    "original_line": 2,
    "side": "RIGHT",
    "in_reply_to_id": 6,
    "original_commit_id": "c0ffee",
    "created_at": "2024-01-01T15:00:00Z",
    "body": "Maybe not?",
    "user": {"login": "ada", "type": "User"},
}
READ = Comment(
    7,
    "octo/hello",
    12,
    "2024-01-01T15:00:00Z",
    "src/a.py",
    2,
    "RIGHT",
    True,
    "c0ffee",
    GITHUB["diff_hunk"],
    "Maybe not?",
)


def test_github_s_fields_ours_and_an_older_form_are_read_alike() -> None:
    assert comment_of(GITHUB) == READ
    assert comment_of(json.loads(line_of(READ))) == READ
    older = {"repo": "octo/hello", "pull": 12, "is_reply": True, "comment": "Maybe not?", "line": 2}
    assert (
        comment_of({**{key: GITHUB[key] for key in GITHUB if key not in ("body", "in_reply_to_id")}, **older}) == READ
    )


@pytest.mark.parametrize("missing", ["body", "path"])
def test_without_a_body_or_a_path_it_is_no_review_comment(missing: str) -> None:
    with pytest.raises(DataError, match="a `body` and a `path`"):
        comment_of({**GITHUB, missing: None})


@pytest.mark.parametrize(
    ("author", "is_machine"),
    [
        ({"login": "renovate[bot]", "type": "User"}, True),
        ({"login": "sentinel", "type": "Bot"}, True),
        ({"login": "robot", "type": "User"}, False),
        (None, False),
    ],
)
def test_a_bot_is_known_by_its_type_or_name(author: object, is_machine: bool) -> None:
    assert is_bot(author) is is_machine


def test_addresses_and_secrets_leave_a_comment_and_its_hunk_before_it_is_kept() -> None:
    secret = "ghp_abcdefghijklmnopqrstuvwx"
    found = kept(
        comment_of({**GITHUB, "body": f"mail ada@example.com {secret}", "diff_hunk": f"@@\n+key = {secret!r}"})
    )
    assert found.body == f"mail user@example.org {'x' * len(secret)}"
    assert secret not in found.diff_hunk
    assert drop_secrets("a short abc123 stays") == "a short abc123 stays"


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz"])
def test_files_of_lines_and_of_pages_are_read_packed_or_plain(tmp_path: Path, suffix: str) -> None:
    text = f"{json.dumps([GITHUB, {**GITHUB, 'id': 8}])}\n\n{json.dumps({**GITHUB, 'id': 9})}\n"
    packed = {"": lambda raw: raw, ".gz": gzip.compress, ".xz": lzma.compress}[suffix](text.encode())
    path = tmp_path / f"comments.jsonl{suffix}"
    path.write_bytes(packed)
    assert [each.id for each in read(path)] == [7, 8, 9]


def test_a_folder_is_all_of_its_files_and_an_edited_comment_counts_once(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(GITHUB)}\n{json.dumps({**GITHUB, 'body': 'edited'})}\n")
    (tmp_path / "deep" / "b.jsonl").write_text(json.dumps({**GITHUB, "id": 8}) + "\n")
    assert [(each.id, each.body) for each in latest(read(tmp_path))] == [(7, "edited"), (8, "Maybe not?")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"id": 1', r"a\.jsonl, line 1: "),
        (b"\n3\n", "line 2: an object was expected, and there is int"),
        (b'{"body": "x"}\n', "line 1: a review comment has"),
        (b"[" * 100_000, "line 1: "),
        (b"\xff\xfe\n", "cannot be read"),
    ],
)
def test_a_file_of_something_else_is_refused_by_its_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=says):
        list(read(path))


def test_a_gzip_that_ends_early_and_a_file_that_is_not_there_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "a.jsonl.gz"
    broken.write_bytes(gzip.compress(b"\n" * 1000)[:-9])
    for path in (broken, tmp_path / "none.jsonl"):
        with pytest.raises(DataError, match="cannot be read"):
            list(read(path))
