"""GitHub's JSON for what a fakehub holds: the fields that clients read, under their names."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sentinelctl.fakehub.checks import CheckRun
from sentinelctl.fakehub.diff import FileDiff, hunk_text
from sentinelctl.fakehub.git import Commit, Person
from sentinelctl.fakehub.hub import (
    APP_ID,
    HUMAN,
    INSTALLATION_ID,
    Comment,
    CommitComment,
    Hook,
    Pull,
    Repository,
    Review,
    User,
)

Json = dict[str, Any]

APP_SLUG = "sentinel-app"
APP_EVENTS = ("pull_request", "push")
PERMISSIONS = {"checks": "write", "contents": "write", "metadata": "read", "pull_requests": "write"}

# What GitHub appends to a repository's address under <name>_url.
_REPOSITORY_URLS = {
    "archive": "{archive_format}{/ref}",
    "assignees": "assignees{/user}",
    "blobs": "git/blobs{/sha}",
    "branches": "branches{/branch}",
    "collaborators": "collaborators{/collaborator}",
    "comments": "comments{/number}",
    "commits": "commits{/sha}",
    "compare": "compare/{base}...{head}",
    "contents": "contents/{+path}",
    "contributors": "contributors",
    "deployments": "deployments",
    "downloads": "downloads",
    "events": "events",
    "forks": "forks",
    "git_commits": "git/commits{/sha}",
    "git_refs": "git/refs{/sha}",
    "git_tags": "git/tags{/sha}",
    "hooks": "hooks",
    "issue_comment": "issues/comments{/number}",
    "issue_events": "issues/events{/number}",
    "issues": "issues{/number}",
    "keys": "keys{/key_id}",
    "labels": "labels{/name}",
    "languages": "languages",
    "merges": "merges",
    "milestones": "milestones{/number}",
    "notifications": "notifications{?since,all,participating}",
    "pulls": "pulls{/number}",
    "releases": "releases{/id}",
    "stargazers": "stargazers",
    "statuses": "statuses/{sha}",
    "subscribers": "subscribers",
    "subscription": "subscription",
    "tags": "tags",
    "teams": "teams",
    "trees": "git/trees{/sha}",
}
_USER_URLS = {
    "events": "events{/privacy}",
    "followers": "followers",
    "following": "following{/other_user}",
    "gists": "gists{/gist_id}",
    "organizations": "orgs",
    "received_events": "received_events",
    "repos": "repos",
    "starred": "starred{/owner}{/repo}",
    "subscriptions": "subscriptions",
}


def utc(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def node_id(kind: str, number: int) -> str:
    return f"{kind}_{base64.urlsafe_b64encode(str(number).encode()).decode().rstrip('=')}"


def user(one: User, base_url: str) -> Json:
    url = f"{base_url}/users/{one.login}"
    return {
        "login": one.login,
        "id": one.id,
        "node_id": node_id("U", one.id),
        "avatar_url": f"{base_url}/avatars/u/{one.id}",
        "gravatar_id": "",
        "url": url,
        "html_url": f"{base_url}/{one.login}",
        **{f"{name}_url": f"{url}/{rest}" for name, rest in _USER_URLS.items()},
        "type": one.type,
        "site_admin": False,
        "user_view_type": "public",
    }


def user_details(one: User, base_url: str) -> Json:
    """As the user itself is shown, which a list does not."""
    return {
        **user(one, base_url),
        **dict.fromkeys(("name", "company", "location", "email", "hireable", "bio", "twitter_username")),
        "blog": "",
        **dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0),
        "created_at": utc(0),
        "updated_at": utc(0),
    }


def repository(one: Repository, base_url: str) -> Json:
    url, html_url = f"{base_url}/repos/{one.full_name}", f"{base_url}/{one.full_name}"
    return {
        "id": one.id,
        "node_id": node_id("R", one.id),
        "name": one.name,
        "full_name": one.full_name,
        "private": False,
        "owner": user(HUMAN, base_url),
        "html_url": html_url,
        "description": None,
        "fork": False,
        "url": url,
        **{f"{name}_url": f"{url}/{rest}".replace("/{/", "{/") for name, rest in _REPOSITORY_URLS.items()},
        "git_url": f"git:{html_url.partition(':')[2]}.git",
        "ssh_url": f"git@fakehub.invalid:{one.full_name}.git",
        "clone_url": f"{html_url}.git",
        "svn_url": html_url,
        **dict.fromkeys(("mirror_url", "homepage", "language", "license")),
        **dict.fromkeys(("size", "stargazers_count", "watchers_count", "forks_count", "open_issues_count"), 0),
        **dict.fromkeys(("forks", "open_issues", "watchers"), 0),
        **dict.fromkeys(("has_issues", "has_projects", "has_wiki", "has_pages", "has_downloads"), False),
        "has_discussions": False,
        "has_pull_requests": True,
        "pull_request_creation_policy": "all",
        "default_branch": one.git.default_branch,
        "visibility": "public",
        "archived": False,
        "disabled": False,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "created_at": utc(0),
        "updated_at": utc(0),
        "pushed_at": utc(0),
    }


def repository_details(one: Repository, base_url: str) -> Json:
    """As the repository itself is shown, which a list does not."""
    return {**repository(one, base_url), "network_count": 0, "subscribers_count": 0}


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
            "verification": {
                "verified": False,
                "reason": "unsigned",
                **dict.fromkeys(("signature", "payload", "verified_at")),
            },
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
    issue_url = f"{base_url}/repos/{served.full_name}/issues/{one.number}"
    statuses_url = f"{base_url}/repos/{served.full_name}/statuses/{one.head_sha}"
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
        "active_lock_reason": None,
        "title": one.title,
        "body": None,
        "user": owner,
        "url": url,
        "html_url": html_url,
        "diff_url": f"{html_url}.diff",
        "patch_url": f"{html_url}.patch",
        "commits_url": f"{url}/commits",
        "issue_url": issue_url,
        "review_comments_url": f"{url}/comments",
        "review_comment_url": f"{url}/comments{{/number}}",
        "comments_url": f"{issue_url}/comments",
        "statuses_url": statuses_url,
        "draft": one.is_draft,
        **sides,
        "created_at": utc(one.created_at_ns),
        "updated_at": utc(one.updated_at_ns),
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": None,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "milestone": None,
        "auto_merge": None,
        "labels": [],
        "author_association": "OWNER",
        "_links": {
            name: {"href": href}
            for name, href in {
                "self": url,
                "html": html_url,
                "issue": issue_url,
                "comments": f"{issue_url}/comments",
                "review_comments": f"{url}/comments",
                "review_comment": f"{url}/comments{{/number}}",
                "commits": f"{url}/commits",
                "statuses": statuses_url,
            }.items()
        },
    }


def pull_details(one: Pull, served: Repository, base_url: str) -> Json:
    files = served.pull_files(one)
    return {
        **pull(one, served, base_url),
        "merged": False,
        "merged_by": None,
        "maintainer_can_modify": False,
        "rebaseable": True,
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
        "test_url": f"{url}/test",
        "ping_url": f"{url}/pings",
        "deliveries_url": f"{url}/deliveries",
        "last_response": {"code": one.last_code or None, "status": status, "message": None},
    }


def app(base_url: str) -> Json:
    return {
        "id": APP_ID,
        "slug": APP_SLUG,
        "node_id": node_id("A", APP_ID),
        "owner": user(HUMAN, base_url),
        "name": APP_SLUG,
        "description": None,
        "external_url": base_url,
        "html_url": f"{base_url}/apps/{APP_SLUG}",
        "created_at": utc(0),
        "updated_at": utc(0),
        "permissions": PERMISSIONS,
        "events": list(APP_EVENTS),
    }


def installation(served: Repository, base_url: str) -> Json:
    return {
        "id": INSTALLATION_ID,
        "account": user(HUMAN, base_url),
        "app_id": APP_ID,
        "app_slug": APP_SLUG,
        "target_id": HUMAN.id,
        "target_type": "User",
        "repository_selection": "all",
        "permissions": PERMISSIONS,
        "events": list(APP_EVENTS),
        "single_file_name": None,
        "html_url": f"{base_url}/{served.full_name}/settings/installations/{INSTALLATION_ID}",
        "access_tokens_url": f"{base_url}/app/installations/{INSTALLATION_ID}/access_tokens",
        "repositories_url": f"{base_url}/installation/repositories",
        "created_at": utc(0),
        "updated_at": utc(0),
        "suspended_by": None,
        "suspended_at": None,
    }


def check_run(one: CheckRun, served: Repository, base_url: str) -> Json:
    url = f"{base_url}/repos/{served.full_name}/check-runs/{one.id}"
    html_url = f"{base_url}/{served.full_name}/runs/{one.id}"
    repo_url = f"{base_url}/repos/{served.full_name}"
    pulls = [pull for pull in served.pulls.values() if pull.head_sha == one.head_sha]
    repo = {"id": served.id, "url": repo_url, "name": served.name}
    return {
        "id": one.id,
        "node_id": node_id("CR", one.id),
        "head_sha": one.head_sha,
        "external_id": one.external_id,
        "name": one.name,
        "url": url,
        "html_url": html_url,
        "details_url": one.details_url or html_url,
        "status": one.status,
        "conclusion": one.conclusion,
        "started_at": one.started_at,
        "completed_at": one.completed_at,
        "output": {
            "title": one.title,
            "summary": one.summary,
            "text": one.text,
            "annotations_count": len(one.annotations),
            "annotations_url": f"{url}/annotations",
        },
        "check_suite": {"id": one.id},
        "app": app(base_url),
        "pull_requests": [
            {
                "id": pull.id,
                "number": pull.number,
                "url": f"{repo_url}/pulls/{pull.number}",
                "head": {"ref": pull.head_ref, "sha": pull.head_sha, "repo": repo},
                "base": {"ref": pull.base_ref, "sha": pull.base_sha, "repo": repo},
            }
            for pull in pulls
        ],
    }


def annotation(one: Mapping[str, Any], of: CheckRun, served: Repository, base_url: str) -> Json:
    return {
        **dict.fromkeys(("start_column", "end_column", "title", "raw_details")),
        **one,
        "blob_href": f"{base_url}/{served.full_name}/blob/{of.head_sha}/{one['path']}",
    }


def _person(one: Person) -> Json:
    """GitHub gives commit times in UTC. A commit may claim a year or an offset that no calendar has: shown as it is."""
    try:
        at = datetime.fromisoformat(one.date).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError):
        at = one.date
    return {"name": one.name, "email": one.email, "date": at}
