import pytest

from services.contract import Outcome
from services.errors import Deferred, Poison, Retryable
from services.extractor.change import YOUNG_S, Change, Ended, find_change
from services.github.types import MAX_COMPARED_FILES, Comparison, GitHubNotFound, GitHubRejected, GitHubUnavailable
from tests.services.extractor.fakes import (
    BASE,
    HEAD,
    NULL,
    OTHER,
    FakeForge,
    changed,
    pull_event,
    pull_request,
    push,
)

FILES = (changed(),)
OLD_S = YOUNG_S + 1
COMPARED = Comparison(status="ahead", files=FILES)


async def test_the_files_of_a_pull_request_are_those_of_its_head() -> None:
    forge = FakeForge(files=FILES)
    assert await find_change(forge, pull_event(), age_s=0) == Change(HEAD, FILES)


async def test_files_beyond_githubs_list_are_counted() -> None:
    forge = FakeForge(pull_answer=pull_request(changed_files=3100), files=FILES)
    assert await find_change(forge, pull_event(), age_s=0) == Change(HEAD, FILES, {"unlisted": 3099})


@pytest.mark.parametrize("age_s", [0, OLD_S])
async def test_an_overtaken_head_ends_as_superseded(age_s: float) -> None:
    forge = FakeForge(pull_answer=pull_request(OTHER), comparisons={(OTHER, HEAD): Comparison(status="behind")})
    ended = await find_change(forge, pull_event(), age_s=age_s)
    assert ended == Ended(Outcome.SUPERSEDED, f"the head is {OTHER} by now")


async def test_a_head_that_github_does_not_show_yet_is_waited_for_and_not_taken_for_overtaken() -> None:
    forge = FakeForge(pull_answer=pull_request(OTHER), comparisons={(OTHER, HEAD): COMPARED})
    with pytest.raises(Deferred):
        await find_change(forge, pull_event(), age_s=0)
    assert await find_change(forge, pull_event(), age_s=OLD_S) == Ended(
        Outcome.SUPERSEDED, f"the head is {OTHER} by now"
    )


async def test_a_push_is_compared_with_what_was_there_before() -> None:
    forge = FakeForge(comparisons={(BASE, HEAD): COMPARED})
    assert await find_change(forge, push(), age_s=0) == Change(HEAD, FILES)
    assert sorted(forge.asked) == ["compare aaaa bbbb", "pulls of topic"]


@pytest.mark.parametrize(
    ("event", "forge", "change"),
    [
        pytest.param(
            push(NULL),
            FakeForge(comparisons={("main", HEAD): COMPARED}),
            Change(HEAD, FILES),
            id="a new branch, against the default branch",
        ),
        pytest.param(
            push(NULL),
            FakeForge(comparisons={("main", HEAD): Comparison(status="identical")}),
            Change(HEAD, ()),
            id="a new branch without a commit of its own",
        ),
        pytest.param(
            push(NULL, branch="main"),
            FakeForge(commits={HEAD: FILES}),
            Change(HEAD, FILES),
            id="the default branch itself is new",
        ),
        pytest.param(
            push(NULL),
            FakeForge(commits={HEAD: FILES}),
            Change(HEAD, FILES, {"base_gone": 1}),
            id="a new branch without a common ancestor",
        ),
        pytest.param(
            push(),
            FakeForge(comparisons={(BASE, HEAD): Comparison(status="diverged", files=FILES)}),
            Change(HEAD, FILES),
            id="a forced push, from the merge base",
        ),
        pytest.param(
            push(),
            FakeForge(commits={HEAD: FILES}),
            Change(HEAD, FILES, {"base_gone": 1}),
            id="what was there before is gone",
        ),
        pytest.param(
            push(),
            FakeForge(comparisons={(BASE, HEAD): Comparison(status="ahead", files=FILES * MAX_COMPARED_FILES)}),
            Change(HEAD, FILES * MAX_COMPARED_FILES, {"unlisted": 1}),
            id="more files than a comparison lists",
        ),
        pytest.param(
            push(branch="feature/x"),
            FakeForge(branch_pulls=(pull_request(),), comparisons={(BASE, HEAD): COMPARED}),
            Change(HEAD, FILES),
            id="a pull request of another branch",
        ),
        pytest.param(
            push(),
            FakeForge(branch_pulls=(pull_request(repository_id=99),), comparisons={(BASE, HEAD): COMPARED}),
            Change(HEAD, FILES),
            id="a pull request of a fork with a branch of this name",
        ),
        pytest.param(
            push(),
            FakeForge(branch_pulls=(pull_request(repository_id=None),), comparisons={(BASE, HEAD): COMPARED}),
            Change(HEAD, FILES),
            id="a pull request of a fork that is gone",
        ),
    ],
)
async def test_pushes(event: object, forge: FakeForge, change: Change) -> None:
    assert await find_change(forge, event, age_s=0) == change  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "comparison", [COMPARED, GitHubUnavailable("down"), GitHubNotFound("github_not_found", "Not Found")]
)
async def test_a_push_to_the_branch_of_an_open_pull_request_is_covered_whatever_the_comparison_says(
    comparison: Comparison | Exception,
) -> None:
    forge = FakeForge(branch_pulls=(pull_request(),), comparisons={(BASE, HEAD): comparison})
    assert await find_change(forge, push(), age_s=0) == Ended(Outcome.COVERED, "pull request 3 has topic as its head")


async def test_what_a_young_event_names_may_still_appear() -> None:
    with pytest.raises(Retryable):
        await find_change(FakeForge(), push(), age_s=0)
    with pytest.raises(GitHubNotFound):
        await find_change(FakeForge(), push(), age_s=OLD_S)


async def test_a_commit_github_refuses_to_find_may_still_appear_too() -> None:
    refused = GitHubRejected("github_422", "No commit found for SHA", status=422)
    forge = FakeForge(comparisons={(BASE, HEAD): refused})
    with pytest.raises(Retryable):
        await find_change(forge, push(), age_s=0)
    with pytest.raises(GitHubRejected):
        await find_change(forge, push(), age_s=OLD_S)


async def test_githubs_own_trouble_passes_through() -> None:
    with pytest.raises(GitHubUnavailable):
        await find_change(FakeForge(branch_pulls=GitHubUnavailable("down")), push(), age_s=0)


async def test_an_event_of_no_known_kind_is_poison() -> None:
    event = push()
    event.ClearField("push")
    with pytest.raises(Poison) as caught:
        await find_change(FakeForge(), event, age_s=0)
    assert caught.value.reason == "unknown_event"
