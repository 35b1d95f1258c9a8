"""GitHub's routes of pull requests: what they change, and the reviews and comments on them."""

from dataclasses import replace
from fnmatch import fnmatchcase

from sentinelctl.fakehub import shapes
from sentinelctl.fakehub.call import MAX_PULL_FILES, REPO, Call, Reply, Routes, listed
from sentinelctl.fakehub.diff import FileDiff
from sentinelctl.fakehub.hub import HUMAN
from sentinelctl.fakehub.rules import Refused

# A diff as text has this much at most; above it the files can only be listed.
MAX_DIFF_FILES = 300
MAX_DIFF_LINES = 20_000


def _list_pulls(call: Call) -> Reply:
    served = call.repository
    state = call.query.get("state", "open")
    owner, _, head = call.query.get("head", "").rpartition(":")
    base = call.query.get("base")
    found = [
        one
        for one in reversed(served.pulls.values())
        if state in {"all", one.state}
        and (not owner or (owner.lower() == HUMAN.login and one.head_ref == head))
        and base in {None, one.base_ref}
    ]
    return listed(call, found, lambda one: shapes.pull(one, served, call.origin))


def _get_pull(call: Call) -> Reply:
    """As JSON, or as a diff where the Accept header asks for one."""
    if "diff" in call.headers.get("accept", ""):
        return _get_diff(call)
    return Reply(shapes.pull_details(call.pull, call.repository, call.origin))


def _get_diff(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    diff = served.git.raw_diff(served.merge_base(pull), pull.head_sha)
    for limit, count, what in (
        (MAX_DIFF_FILES, len(served.pull_files(pull)), "files"),
        (MAX_DIFF_LINES, diff.count(b"\n"), "lines"),
    ):
        if count > limit:
            raise Refused(
                406,
                f"Sorry, the diff exceeded the maximum number of {what} ({limit}). Consider using 'List pull requests "
                "files' API or locally cloning the repository instead.",
                [{"resource": "PullRequest", "field": "diff", "code": "too_large"}],
            )
    return Reply(diff)


def _list_pull_files(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    files = served.pull_files(pull)[:MAX_PULL_FILES]
    bare = [fault.files for fault in call.faults if fault.kind == "no_patch"]

    def shown(one: FileDiff) -> shapes.Json:
        is_bare = any(fnmatchcase(one.path, pattern) for pattern in bare)
        return shapes.file(replace(one, patch=None) if is_bare else one, served, pull.head_sha, call.origin)

    return listed(call, files, shown)


def _list_reviews(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    shown = [one for one in pull.reviews if one.state != "PENDING" or one.author == call.user]
    return listed(call, shown, lambda one: shapes.review(one, pull, served, call.origin))


def _create_review(call: Call) -> Reply:
    refused = {anchor for fault in call.faults for anchor in fault.anchors}
    review = call.hub.create_review(call.repository, call.pull, call.user, call.body, refused=refused)
    return Reply(shapes.review(review, call.pull, call.repository, call.origin))


def _get_review(call: Call) -> Reply:
    found = next((one for one in call.pull.reviews if str(one.id) == call.path["review"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return Reply(shapes.review(found, call.pull, call.repository, call.origin))


def _list_review_comments(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    found = next((one for one in pull.reviews if str(one.id) == call.path["review"]), None)
    if found is None:
        raise Refused(404, "Not Found")
    return listed(call, found.comments, lambda one: shapes.comment(one, pull, served, call.origin))


def _list_comments(call: Call) -> Reply:
    served, pull = call.repository, call.pull
    found = [one for review in pull.reviews if review.state != "PENDING" for one in review.comments]
    return listed(call, found, lambda one: shapes.comment(one, pull, served, call.origin))


def _list_all_comments(call: Call) -> Reply:
    """Of every pull request. Nothing changes a comment here, so `updated` is when it was created."""
    served = call.repository
    found = [
        (pull, one)
        for pull in served.pulls.values()
        for review in pull.reviews
        if review.state != "PENDING"
        for one in review.comments
        if shapes.utc(one.created_at_ns) >= call.query.get("since", "")
    ]
    # Without `sort` GitHub passes over `direction` and lists by id, which grows with time.
    is_falling = "sort" in call.query and call.query.get("direction", "desc") == "desc"
    found.sort(key=lambda each: each[1].id, reverse=is_falling)
    return listed(call, found, lambda each: shapes.comment(each[1], each[0], served, call.origin))


def _create_comment(call: Call) -> Reply:
    comment = call.hub.create_comment(call.repository, call.pull, call.user, call.body)
    return Reply(shapes.comment(comment, call.pull, call.repository, call.origin), 201)


_PULL = f"{REPO}/pulls/{{number}}"
ROUTES: Routes = (
    ("GET", f"{REPO}/pulls", _list_pulls, "token"),
    ("GET", f"{REPO}/pulls/comments", _list_all_comments, "token"),
    ("GET", _PULL, _get_pull, "token"),
    ("GET", f"{_PULL}/files", _list_pull_files, "token"),
    ("GET", f"{_PULL}/comments", _list_comments, "token"),
    ("POST", f"{_PULL}/comments", _create_comment, "token"),
    ("GET", f"{_PULL}/reviews", _list_reviews, "token"),
    ("POST", f"{_PULL}/reviews", _create_review, "token"),
    ("GET", f"{_PULL}/reviews/{{review}}", _get_review, "token"),
    ("GET", f"{_PULL}/reviews/{{review}}/comments", _list_review_comments, "token"),
)
