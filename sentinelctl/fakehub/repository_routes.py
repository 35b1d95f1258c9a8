"""GitHub's routes of whoever asks, and of a repository: its commits, comparisons, contents and check runs."""

import base64
from urllib.parse import quote

from sentinelctl.fakehub import shapes
from sentinelctl.fakehub.call import MAX_PULL_FILES, REPO, Call, Reply, Routes, listed, page
from sentinelctl.fakehub.checks import CheckRun
from sentinelctl.fakehub.git import Entry
from sentinelctl.fakehub.hub import APP_USER, INSTALLATION_ID
from sentinelctl.fakehub.limits import PRIMARY
from sentinelctl.fakehub.rules import Refused

# A comparison shows at most this many files, and this many commits where no page is asked for.
MAX_COMPARE_FILES = 300
MAX_COMPARE_COMMITS = 250


def _get_user(call: Call) -> Reply:
    if call.user == APP_USER:
        raise Refused(403, "Resource not accessible by integration")
    return Reply(shapes.user_details(call.user, call.origin))


def _get_rate_limit(call: Call) -> Reply:
    seen = call.hub.limits.look(call.user.id, call.hub.clock_ns() / 10**9)
    core = {"limit": PRIMARY, "used": seen.used, "remaining": seen.remaining, "reset": seen.resets_at_s}
    return Reply({"resources": {"core": core, "search": {**core, "limit": 30, "remaining": 30}}, "rate": core})


def _create_token(call: Call) -> Reply:
    if call.path["installation"] != str(INSTALLATION_ID):
        raise Refused(404, "Not Found")
    token, expires_at_ns = call.hub.issue_token()
    return Reply(
        {
            "token": token,
            "expires_at": shapes.utc(expires_at_ns),
            "permissions": shapes.PERMISSIONS,
            "repository_selection": "all",
        },
        201,
    )


def _get_repository(call: Call) -> Reply:
    return Reply(shapes.repository_details(call.repository, call.origin))


def _get_installation(call: Call) -> Reply:
    return Reply(shapes.installation(call.repository, call.origin))


def _get_commit(call: Call) -> Reply:
    served, base_url = call.repository, call.origin
    sha = call.commit(call.path["ref"])
    files = served.git.changes(sha)[:MAX_PULL_FILES]
    window, link = page(call, files, MAX_COMPARE_FILES, MAX_COMPARE_FILES)
    additions, deletions = sum(one.additions for one in files), sum(one.deletions for one in files)
    return Reply(
        {
            **shapes.commit(served.git.commit(sha), served, base_url),
            "stats": {"total": additions + deletions, "additions": additions, "deletions": deletions},
            "files": [shapes.file(one, served, sha, base_url) for one in files[window]],
        },
        link=link,
    )


def _list_commit_pulls(call: Call) -> Reply:
    """Open pull requests that bring a commit. One that the default branch has is no longer theirs, as on GitHub."""
    served = call.repository
    sha = call.commit(call.path["sha"])
    default = served.resolve(served.git.default_branch)
    is_merged = default is not None and served.git.is_ancestor(sha, default)
    found = [] if is_merged else [one for one in served.pulls.values() if sha in served.pull_commits(one)]
    return listed(call, found, lambda one: shapes.pull(one, served, call.origin))


def _list_commit_comments(call: Call) -> Reply:
    served, sha = call.repository, call.commit(call.path["sha"])
    found = [one for one in served.comments if one.commit_id == sha]
    return listed(call, found, lambda one: shapes.commit_comment(one, served, call.origin))


def _create_commit_comment(call: Call) -> Reply:
    served = call.repository
    comment = call.hub.create_commit_comment(served, call.commit(call.path["sha"]), call.user, call.body)
    return Reply(shapes.commit_comment(comment, served, call.origin), 201)


def _compare(call: Call) -> Reply:
    """Three dots: from the merge base. Pages are of commits; the files stand on the first page alone."""
    served, base_url = call.repository, call.origin
    names = call.path["basehead"].split("...")
    if len(names) != 2:
        raise Refused(404, "Not Found")
    base, head = (served.resolve(name.rpartition(":")[2]) for name in names)
    if base is None or head is None:
        raise Refused(404, "Not Found")
    root = served.git.merge_base(base, head)
    if root is None:
        raise Refused(404, f"No common ancestor between {names[0]} and {names[1]}.")
    ahead, behind = served.git.between(base, head), served.git.between(head, base)
    link = None
    if call.query.keys() & {"page", "per_page"}:
        window, link = page(call, ahead)
    else:
        window = slice(-MAX_COMPARE_COMMITS, None)
    is_first = call.number("page", 1) == 1
    files = served.git.diff(root, head)[:MAX_COMPARE_FILES] if is_first else ()
    status = {(False, False): "identical", (True, False): "ahead", (False, True): "behind"}
    url = f"{base_url}/repos/{served.full_name}/compare/{names[0]}...{names[1]}"
    html_url = f"{base_url}/{served.full_name}/compare/{names[0]}...{names[1]}"
    return Reply(
        {
            "url": url,
            "html_url": html_url,
            "permalink_url": f"{base_url}/{served.full_name}/compare/{base}...{head}",
            "diff_url": f"{html_url}.diff",
            "patch_url": f"{html_url}.patch",
            "base_commit": shapes.commit(served.git.commit(base), served, base_url),
            "merge_base_commit": shapes.commit(served.git.commit(root), served, base_url),
            "status": status.get((bool(ahead), bool(behind)), "diverged"),
            "ahead_by": len(ahead),
            "behind_by": len(behind),
            "total_commits": len(ahead),
            "commits": [shapes.commit(one, served, base_url) for one in served.git.commits(ahead[window])],
            "files": [shapes.file(one, served, head, base_url) for one in files],
        },
        link=link,
    )


def _get_contents(call: Call) -> Reply:
    """A file with its bytes in base64, or the entries of a folder."""
    served, base_url = call.repository, call.origin
    path = call.path["path"].strip("/")
    ref = call.query.get("ref") or served.git.default_branch
    sha = served.resolve(ref)
    if sha is None:
        raise Refused(404, f"No commit found for the ref {ref}")
    entries = served.git.entries(sha, path)
    if not entries:
        raise Refused(404, "Not Found")

    def about(path: str, kind: str, blob: str, size: int) -> shapes.Json:
        place, repo_url = quote(path), f"{base_url}/repos/{served.full_name}"
        url, git_url = f"{repo_url}/contents/{place}?ref={ref}", f"{repo_url}/git/{kind}s/{blob}"
        html_url = f"{base_url}/{served.full_name}/{kind}/{ref}/{place}"
        return {
            "type": {"blob": "file", "tree": "dir"}.get(kind, "submodule"),
            "name": path.rpartition("/")[2],
            "path": path,
            "sha": blob,
            "size": size,
            "url": url,
            "git_url": git_url,
            "html_url": html_url,
            "download_url": f"{base_url}/{served.full_name}/raw/{ref}/{place}" if kind == "blob" else None,
            "_links": {"self": url, "git": git_url, "html": html_url},
        }

    def content_of(one: Entry) -> bytes:
        return served.git.blob(one.sha) if one.kind == "blob" else b""

    first = entries[0]
    if len(entries) != 1 or first.path != path:
        return Reply([about(one.path, one.kind, one.sha, len(content_of(one))) for one in entries])
    content = content_of(first)
    if "raw" in call.headers.get("accept", ""):
        return Reply(content)
    text = base64.encodebytes(content).decode()
    return Reply({**about(path, first.kind, first.sha, len(content)), "encoding": "base64", "content": text})


def _app_only(call: Call) -> None:
    if call.user != APP_USER:
        raise Refused(403, "You must authenticate via a GitHub App.")


def _check_run(call: Call) -> CheckRun:
    found = next((one for one in call.repository.check_runs.values() if str(one.id) == call.path["run"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return found


def _create_check_run(call: Call) -> Reply:
    _app_only(call)
    run = call.hub.create_check_run(call.repository, call.body, shapes.utc(call.hub.clock_ns()))
    return Reply(shapes.check_run(run, call.repository, call.origin), 201)


def _update_check_run(call: Call) -> Reply:
    _app_only(call)
    run = _check_run(call)
    call.hub.update_check_run(run, call.body, shapes.utc(call.hub.clock_ns()))
    return Reply(shapes.check_run(run, call.repository, call.origin))


def _get_check_run(call: Call) -> Reply:
    return Reply(shapes.check_run(_check_run(call), call.repository, call.origin))


def _list_annotations(call: Call) -> Reply:
    run = _check_run(call)
    return listed(call, run.annotations, lambda one: shapes.annotation(one, run, call.repository, call.origin))


def _list_check_runs(call: Call) -> Reply:
    """Of one commit, the latest first; of those with one name only the latest, unless `filter` is all."""
    served, sha = call.repository, call.commit(call.path["ref"])
    name, status = call.query.get("check_name"), call.query.get("status")
    found = [
        one
        for one in reversed(served.check_runs.values())
        if one.head_sha == sha and name in {None, one.name} and status in {None, one.status}
    ]
    if call.query.get("filter") != "all":
        found = list({one.name: one for one in reversed(found)}.values())[::-1]
    window, link = page(call, found)
    shown = [shapes.check_run(one, served, call.origin) for one in found[window]]
    return Reply({"total_count": len(found), "check_runs": shown}, link=link)


ROUTES: Routes = (
    ("GET", "/user", _get_user, "token"),
    ("GET", "/rate_limit", _get_rate_limit, "token"),
    ("POST", "/app/installations/{installation}/access_tokens", _create_token, "jwt"),
    ("GET", REPO, _get_repository, "token"),
    ("GET", f"{REPO}/installation", _get_installation, "jwt"),
    ("POST", f"{REPO}/check-runs", _create_check_run, "token"),
    ("GET", f"{REPO}/check-runs/{{run}}", _get_check_run, "token"),
    ("PATCH", f"{REPO}/check-runs/{{run}}", _update_check_run, "token"),
    ("GET", f"{REPO}/check-runs/{{run}}/annotations", _list_annotations, "token"),
    ("GET", f"{REPO}/commits/{{ref}}/check-runs", _list_check_runs, "token"),
    ("GET", f"{REPO}/commits/{{sha}}/pulls", _list_commit_pulls, "token"),
    ("GET", f"{REPO}/commits/{{sha}}/comments", _list_commit_comments, "token"),
    ("POST", f"{REPO}/commits/{{sha}}/comments", _create_commit_comment, "token"),
    ("GET", f"{REPO}/commits/{{ref:path}}", _get_commit, "token"),
    ("GET", f"{REPO}/compare/{{basehead:path}}", _compare, "token"),
    ("GET", f"{REPO}/contents/{{path:path}}", _get_contents, "token"),
)
