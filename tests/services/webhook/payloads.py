"""The parts of GitHub's payloads that are read, with GitHub's own names and types."""

from typing import Any

BEFORE, AFTER = "a" * 40, "b" * 40


def push(**changes: Any) -> dict[str, Any]:
    return {
        "ref": "refs/heads/main",
        "before": BEFORE,
        "after": AFTER,
        "created": False,
        "deleted": False,
        "forced": False,
        "repository": repository(),
        "commits": [{"id": AFTER, "url": "http://elsewhere.example/commit"}],
        **changes,
    }


def pull_request(action: str = "opened", **changes: Any) -> dict[str, Any]:
    return {
        "action": action,
        "number": 7,
        "pull_request": {
            "number": 7,
            "draft": False,
            "head": {"ref": "feature", "sha": AFTER, "repo": None},
            "base": {"ref": "main", "sha": BEFORE},
            **changes,
        },
        "repository": repository(),
        "installation": {"id": 99},
    }


def repository() -> dict[str, Any]:
    return {"id": 1296269, "full_name": "octocat/Hello-World", "default_branch": "main", "private": True}
