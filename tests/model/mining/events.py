"""Events as GH Archive's hourly files hold them, reduced to what GitHub documents of the fields that are read."""

import gzip
import json
from collections.abc import Sequence
from typing import Any, Final

HOUR: Final = "2024-01-01-15"


def comment_event(number: int, body: str = "Maybe not?", actor: str = "ada") -> dict[str, Any]:
    return {
        "id": str(number),
        "type": "PullRequestReviewCommentEvent",
        "actor": {"id": 1, "login": actor},
        "repo": {"id": 2, "name": "octo/hello", "url": "https://api.github.com/repos/octo/hello"},
        "payload": {
            "action": "created",
            "comment": {
                "id": number,
                "diff_hunk": "@@ -1 +1,2 @@\n one\n+two",
                "path": "src/a.py",
                "line": 2,
                "side": "RIGHT",
                "original_commit_id": "c0ffee",
                "user": {"login": actor, "type": "User"},
                "body": body,
                "created_at": "2024-01-01T15:00:00Z",
                "updated_at": "2024-01-01T15:00:00Z",
            },
            "pull_request": {"number": 12},
        },
        "public": True,
        "created_at": "2024-01-01T15:00:00Z",
    }


def push_event(number: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "type": "PushEvent",
        "actor": {"id": 1, "login": "ada"},
        "repo": {"id": 2, "name": "octo/hello"},
        "payload": {"ref": "refs/heads/main", "head": "c0ffee", "before": "decade", "commits": []},
        "public": True,
        "created_at": "2024-01-01T15:00:01Z",
    }


def packed(events: Sequence[Any]) -> bytes:
    return gzip.compress(b"".join(json.dumps(each).encode() + b"\n" for each in events), mtime=0)
