import pytest

from services.errors import Poison
from services.github.types import PullRequest, Repo


@pytest.mark.parametrize("name", ["octocat/Hello-World", "a/b", "a_b/x.y", "my-org/.github", "o/a..b"])
def test_names_as_github_writes_them_are_taken(name: str) -> None:
    assert Repo(name).owner == name.split("/", maxsplit=1)[0]


@pytest.mark.parametrize(
    "name", ["", "a", "a/", "/b", "a/b/c", "a/..", "a/.", "../b", "a/b?x=1", "a/b#c", "a/b c", "a/b%2F", "ä/b", "a/b\n"]
)
def test_a_name_that_would_change_the_path_is_poison(name: str) -> None:
    with pytest.raises(Poison) as caught:
        Repo(name)
    assert caught.value.reason == "bad_repository"


def test_a_pull_request_whose_fork_is_gone_has_no_head_repository() -> None:
    side = {"sha": "1" * 40, "ref": "main", "repo": None}
    pull = PullRequest.model_validate({"number": 1, "state": "open", "head": side, "base": side})
    assert pull.head_repository_id is None
