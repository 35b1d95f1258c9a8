"""GitHub's JSON for what a fakehub holds: the fields that clients read, under their names."""

import base64
from datetime import UTC, datetime
from typing import Any

from sentinelctl.fakehub.diff import FileDiff, hunk_text
from sentinelctl.fakehub.git import Commit, Person
from sentinelctl.fakehub.hub import HUMAN, Comment, CommitComment, Hook, Pull, Repository, Review, User

Json = dict[str, Any]


def utc(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    return f"{kind}_{base64.urlsafe_b64encode(str(number).encode()).decode().rstrip('=')}"


def user(one: User, base_url: str) -> Json:
    return {
        "login": one.login,
        "id": one.id,
        "node_id": node_id("U", one.id),
        "url": f"{base_url}/users/{one.login}",
        "html_url": f"{base_url}/{one.login}",
        "type": one.type,
        "site_admin": False,
    }


def repository(one: Repository, base_url: str) -> Json:
    url = f"{base_url}/repos/{one.full_name}"
    return {
        "id": one.id,
        "node_id": node_id("R", one.id),
        "name": one.name,
        "full_name": one.full_name,
        "private": False,
        "owner": {**user(HUMAN, base_url), "name": HUMAN.login},
        "html_url": f"{base_url}/{one.full_name}",
        "description": None,
        "fork": False,
        "url": url,
        "commits_url": f"{url}/commits{{/sha}}",
        "compare_url": f"{url}/compare/{{base}}...{{head}}",
        "contents_url": f"{url}/contents/{{+path}}",
        "pulls_url": f"{url}/pulls{{/number}}",
        "hooks_url": f"{url}/hooks",
        "default_branch": one.git.default_branch,
        "visibility": "public",
        "archived": False,
        "disabled": False,
    }


def commit(one: Commit, served: Repository, base_url: str) -> Json:
    url = f"{base_url}/repos/{served.full_name}/commits/{one.sha}"
    html_url = f"{base_url}/{served.full_name}/commit/"
    return {
        "sha": one.sha,
        "node_id": f"C_{one.sha}",
        "commit": {
            "author": _person(one.author),
            "committer": _person(one.committer),
            "message": one.message,
            "tree": {"sha": one.tree, "url": f"{base_url}/repos/{served.full_name}/git/trees/{one.tree}"},
            "url": f"{base_url}/repos/{served.full_name}/git/commits/{one.sha}",
            "comment_count": sum(comment.commit_id == one.sha for comment in served.comments),
            "verification": {"verified": False, "reason": "unsigned", "signature": None, "payload": None},
        },
        "url": url,
        "html_url": f"{html_url}{one.sha}",
        "comments_url": f"{url}/comments",
        "author": None,
        "committer": None,
        "parents": [
            {
                "sha": sha,
                "url": f"{base_url}/repos/{served.full_name}/commits/{sha}",
                "html_url": f"{html_url}{sha}",
            }
            for sha in one.parents
        ],
    }


def file(one: FileDiff, served: Repository, sha: str, base_url: str) -> Json:
    shown: Json = {
        "sha": one.sha,
        "filename": one.path,
        "status": one.status,
        "additions": one.additions,
        "deletions": one.deletions,
        "changes": one.additions + one.deletions,
        "blob_url": f"{base_url}/{served.full_name}/blob/{sha}/{one.path}",
        "raw_url": f"{base_url}/{served.full_name}/raw/{sha}/{one.path}",
        "contents_url": f"{base_url}/repos/{served.full_name}/contents/{one.path}?ref={sha}",
    }
    if one.patch is not None:
        shown["patch"] = one.patch
    if one.old_path is not None:
        shown["previous_filename"] = one.old_path
    return shown


def pull(one: Pull, served: Repository, base_url: str) -> Json:
    """As a list shows it; `pull_details` adds what a single pull request shows."""
    url = f"{base_url}/repos/{served.full_name}/pulls/{one.number}"
    html_url = f"{base_url}/{served.full_name}/pull/{one.number}"
    repo, owner = repository(served, base_url), user(HUMAN, base_url)
    sides = {
        name: {"label": f"{HUMAN.login}:{ref}", "ref": ref, "sha": sha, "user": owner, "repo": repo}
        for name, ref, sha in (("head", one.head_ref, one.head_sha), ("base", one.base_ref, one.base_sha))
    }
    return {
        "id": one.id,
        "node_id": node_id("PR", one.id),
        "number": one.number,
        "state": one.state,
        "locked": False,
        "title": one.title,
        "body": None,
        "user": owner,
        "url": url,
        "html_url": html_url,
        "diff_url": f"{html_url}.diff",
        "patch_url": f"{html_url}.patch",
        "commits_url": f"{url}/commits",
        "review_comments_url": f"{url}/comments",
        "draft": one.is_draft,
        **sides,
        "created_at": utc(one.created_at_ns),
        "updated_at": utc(one.updated_at_ns),
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": None,
        "assignees": [],
        "requested_reviewers": [],
        "labels": [],
        "author_association": "OWNER",
        "_links": {"self": {"href": url}, "html": {"href": html_url}},
    }


def pull_details(one: Pull, served: Repository, base_url: str) -> Json:
    files = served.pull_files(one)
    return {
        **pull(one, served, base_url),
        "merged": False,
        "mergeable": True,
        "mergeable_state": "clean",
        "comments": 0,
        "review_comments": sum(len(review.comments) for review in one.reviews),
        "commits": len(served.pull_commits(one)),
        "additions": sum(item.additions for item in files),
        "deletions": sum(item.deletions for item in files),
        "changed_files": len(files),
    }


def review(one: Review, of: Pull, served: Repository, base_url: str) -> Json:
    pull_url = f"{base_url}/repos/{served.full_name}/pulls/{of.number}"
    html_url = f"{base_url}/{served.full_name}/pull/{of.number}#pullrequestreview-{one.id}"
    shown: Json = {
        "id": one.id,
        "node_id": node_id("PRR", one.id),
        "user": user(one.author, base_url),
        "body": one.body,
        "state": one.state,
        "html_url": html_url,
        "pull_request_url": pull_url,
        "author_association": "COLLABORATOR",
        "_links": {"html": {"href": html_url}, "pull_request": {"href": pull_url}},
        "commit_id": one.commit_id,
    }
    if one.state != "PENDING":
        shown["submitted_at"] = utc(one.visible_at_ns)
    return shown


def comment(one: Comment, of: Pull, served: Repository, base_url: str) -> Json:
    """Its lines stay those of the commit it was written for; GitHub moves them with the head where it can."""
    url = f"{base_url}/repos/{served.full_name}/pulls/comments/{one.id}"
    pull_url = f"{base_url}/repos/{served.full_name}/pulls/{of.number}"
    html_url = f"{base_url}/{served.full_name}/pull/{of.number}#discussion_r{one.id}"
    placed = one.placed
    return {
        "id": one.id,
        "node_id": node_id("PRRC", one.id),
        "pull_request_review_id": one.review_id,
        "url": url,
        "html_url": html_url,
        "pull_request_url": pull_url,
        "diff_hunk": hunk_text(placed.patch, placed.anchor),
        "path": placed.path,
        "position": placed.anchor.position,
        "original_position": placed.anchor.position,
        "commit_id": one.commit_id,
        "original_commit_id": one.commit_id,
        "user": user(one.author, base_url),
        "body": placed.body,
        "created_at": utc(one.created_at_ns),
        "updated_at": utc(one.created_at_ns),
        "author_association": "COLLABORATOR",
        "line": placed.line,
        "original_line": placed.line,
        "side": placed.side,
        "start_line": placed.start_line,
        "original_start_line": placed.start_line,
        "start_side": placed.start_side,
        "subject_type": "line",
        "_links": {"self": {"href": url}, "html": {"href": html_url}, "pull_request": {"href": pull_url}},
    }


def commit_comment(one: CommitComment, served: Repository, base_url: str) -> Json:
    return {
        "id": one.id,
        "node_id": node_id("CC", one.id),
        "url": f"{base_url}/repos/{served.full_name}/comments/{one.id}",
        "html_url": f"{base_url}/{served.full_name}/commit/{one.commit_id}#commitcomment-{one.id}",
        "commit_id": one.commit_id,
        "user": user(one.author, base_url),
        "body": one.body,
        "path": one.path,
        "position": one.position,
        "line": one.line,
        "created_at": utc(one.visible_at_ns),
        "updated_at": utc(one.visible_at_ns),
        "author_association": "COLLABORATOR",
    }


def hook(one: Hook, served: Repository, base_url: str) -> Json:
    """The secret is shown as stars, as GitHub does."""
    url = f"{base_url}/repos/{served.full_name}/hooks/{one.id}"
    config = {"url": one.url, "content_type": "json", "insecure_ssl": "0"}
    status = {None: "unused", 0: "failed to connect"}.get(one.last_code, "active")
    return {
        "type": "Repository",
        "id": one.id,
        "name": "web",
        "active": one.is_active,
        "events": list(one.events),
        "config": {**config, "secret": "********"} if one.secret else config,
        "created_at": utc(one.created_at_ns),
        "updated_at": utc(one.created_at_ns),
        "url": url,
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": {"code": one.last_code or None, "status": status, "message": None},
    }


def _person(one: Person) -> Json:
    """GitHub gives commit times in UTC. A commit may claim a year or an offset that no calendar has: shown as it is."""
    try:
        at = datetime.fromisoformat(one.date).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        at = one.date
    return {"name": one.name, "email": one.email, "date": at}
