"""What goes to GitHub and what comes back, reduced to the fields that are used; and how a call fails."""

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import AliasPath, BaseModel, ConfigDict, Field

from services.errors import Deferred, Poison

MAX_FILES = 3000
"""Files GitHub lists of one pull request or commit, at most."""
MAX_COMPARED_FILES = 300
"""Files GitHub lists of one comparison, at most."""

_OWNER = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}")


class GitHubLimited(Deferred):
    """A primary or secondary limit, or our own pacing: the call was refused and had no effect."""


class GitHubUnavailable(Deferred):
    """No usable answer (5xx, timeout, lost connection, refused credentials): a write may have had its effect."""


class GitHubNotFound(Poison):
    """404, 410, or a 403 that is no limit: not there for these credentials."""


class GitHubRejected(Poison):
    """GitHub refused the request itself. `status` is its HTTP status, `errors` its own words."""

    def __init__(self, reason: str, message: str, *, status: int = 0, errors: tuple[str, ...] = ()) -> None:
        super().__init__(reason, message)
        self.status = status
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Repo:
    """Whose repository, and by which installation it is reached (0: by the token).

    Raises Poison when `full_name` is not owner/name, so that no payload chooses a request's path.
    """

    full_name: str
    installation_id: int = 0

    def __post_init__(self) -> None:
        owner, _, name = self.full_name.partition("/")
        if not (_OWNER.fullmatch(owner) and _NAME.fullmatch(name)):
            raise Poison("bad_repository", f"{self.full_name!r} is not owner/name as GitHub writes it")

    @property
    def owner(self) -> str:
        return self.full_name.partition("/")[0]


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class PullRequest(Answer):
    number: int
    state: Literal["open", "closed"]
    is_draft: bool = Field(False, alias="draft")
    head_sha: str = Field(validation_alias=AliasPath("head", "sha"))
    head_ref: str = Field(validation_alias=AliasPath("head", "ref"))
    head_repository_id: int | None = Field(None, validation_alias=AliasPath("head", "repo", "id"))
    """None when the fork it came from is gone."""
    base_sha: str = Field(validation_alias=AliasPath("base", "sha"))
    base_ref: str = Field(validation_alias=AliasPath("base", "ref"))
    changed_files: int | None = None
    """None in lists of pull requests, which do not say."""


class ChangedFile(Answer):
    path: str = Field(alias="filename")
    status: str
    patch: str | None = None
    """Its @@ blocks; None for a binary, a too large, and an only renamed file."""
    changes: int = 0
    """Added and deleted lines."""
    sha: str | None = None
    """Its blob."""


class Comparison(Answer):
    """status: ahead, behind, diverged or identical, of head seen from base. Files since the merge base."""

    status: str
    files: tuple[ChangedFile, ...] = ()


class PostedReview(Answer):
    id: int
    body: str | None = ""
    commit_sha: str | None = Field(None, alias="commit_id")
    html_url: str = ""


class PostedComment(Answer):
    """A comment on a commit."""

    id: int
    body: str | None = ""
    html_url: str = ""


class Author(Answer):
    login: str
    type: str = "User"


class ReviewComment(Answer):
    """A comment on a line of a pull request."""

    id: int
    user: Author | None = None
    """None when the account is gone."""
    body: str
    path: str
    diff_hunk: str = ""
    line: int | None = None
    original_line: int | None = None
    side: str | None = None
    in_reply_to_id: int | None = None
    original_commit_id: str = ""
    pull_request_url: str = ""
    created_at: str
    updated_at: str


@dataclass(frozen=True, slots=True)
class ReviewComments:
    """One page of them. `is_unchanged`: the answer is still that of the ETag which was sent, and is not sent again."""

    comments: tuple[ReviewComment, ...] = ()
    etag: str = ""
    has_next: bool = False
    is_unchanged: bool = False


Anchor = tuple[str, int, str]
"""path, line, side: where a comment of a review sits."""


@dataclass(frozen=True, slots=True)
class InlineComment:
    """A comment of a review; `side` RIGHT counts lines in the new file, LEFT in the old one."""

    path: str
    line: int
    side: Literal["LEFT", "RIGHT"]
    body: str

    @property
    def anchor(self) -> Anchor:
        return (self.path, self.line, self.side)
