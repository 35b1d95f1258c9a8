"""A repository's comments, page by page, against a made-up GitHub that sorts by time of change."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from model.dataset import DataError
from model.mining.comments import read
from model.mining.label import label
from model.mining.reviews import Mined, Page, mine_reviews

SIZE = 4


@dataclass
class Hub:
    comments: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    breaks_at: int | None = None

    def put(self, number: int, second: int, body: str = "text", user: str = "ada") -> None:
        changed = f"2024-01-01T00:{second // 60:02}:{second % 60:02}Z"
        self.comments[number] = {
            "id": number,
            "path": "a.py",
            "body": body,
            "user": {"login": user},
            "created_at": changed,
            "updated_at": changed,
        }

    def ask(self, since: str, page: int, etag: str) -> Page:
        self.asked.append((since, page, etag))
        if len(self.asked) == self.breaks_at:
            raise ConnectionError
        order = sorted(self.comments.values(), key=lambda each: (each["updated_at"], each["id"]))
        found = [each for each in order if each["updated_at"] >= since]
        window = found[(page - 1) * SIZE : page * SIZE]
        tag = str(hash(json.dumps(window)))
        if tag == etag:
            return Page(etag=etag, is_unchanged=True)
        return Page(window, tag, len(window) == SIZE, len(found) > page * SIZE)


@pytest.fixture
def hub() -> Hub:
    hub = Hub()
    for number in range(1, 10):
        hub.put(number, number)
    return hub


def mine(hub: Hub, out: Path) -> Mined:
    return mine_reviews("octo/hello", out, hub.ask, lambda _: None)


def ids(out: Path) -> list[int]:
    return [each.id for each in read(out / "octo+hello.jsonl")]


def test_every_comment_is_there_once_and_an_unchanged_repository_costs_one_question(hub: Hub, tmp_path: Path) -> None:
    mined = mine(hub, tmp_path)
    assert ids(tmp_path) == list(range(1, 10))
    assert (mined.comments, mined.new) == (9, 9)
    hub.asked.clear()
    again = mine(hub, tmp_path)
    ((since, page, etag),) = hub.asked
    assert since
    assert etag
    assert page == 1
    assert (again.comments, again.new) == (9, 0)


def test_what_came_and_what_was_edited_since_is_fetched_alone(hub: Hub, tmp_path: Path) -> None:
    mine(hub, tmp_path)
    hub.put(11, 40)
    hub.put(3, 50, "edited")
    mined = mine(hub, tmp_path)
    assert ids(tmp_path) == [*range(1, 10), 11, 3]
    assert (mined.comments, mined.new) == (11, 2)


def test_a_last_page_that_was_full_hides_nothing_that_came_behind_it(tmp_path: Path) -> None:
    hub = Hub()
    for number in range(1, SIZE + 1):
        hub.put(number, 1)
    mine(hub, tmp_path)
    hub.put(9, 1)
    mine(hub, tmp_path)
    assert ids(tmp_path) == [1, 2, 3, 4, 9]


def test_comments_of_one_second_are_turned_over_page_by_page(tmp_path: Path) -> None:
    hub = Hub()
    for number in range(1, 15):
        hub.put(number, 7 if 3 <= number <= 12 else number)
    mine(hub, tmp_path)
    assert sorted(ids(tmp_path)) == list(range(1, 15))


def test_a_comment_edited_between_two_pages_hides_no_other(hub: Hub, tmp_path: Path) -> None:
    asked = hub.ask

    def ask(since: str, page: int, etag: str) -> Page:
        if len(hub.asked) == 1:
            hub.put(1, 59, "edited meanwhile")  # with numbered pages, what moves up would be passed over
        return asked(since, page, etag)

    mine_reviews("octo/hello", tmp_path, ask, lambda _: None)
    assert ids(tmp_path) == [*range(1, 10), 1]


@pytest.mark.parametrize("breaks_at", [1, 2, 3])
def test_a_run_that_broke_off_is_gone_on_from(hub: Hub, tmp_path: Path, breaks_at: int) -> None:
    hub.breaks_at = breaks_at
    with pytest.raises(ConnectionError):
        mine(hub, tmp_path)
    with (tmp_path / "octo+hello.jsonl").open("a") as file:
        file.write('{"half a li')  # as a killed process leaves it
    asked = len(hub.asked)
    mine(hub, tmp_path)
    assert ids(tmp_path) == list(range(1, 10))
    assert len(hub.asked) - asked <= 5 - breaks_at


def test_a_file_that_was_labelled_meanwhile_is_gone_on_from(hub: Hub, tmp_path: Path) -> None:
    mine(hub, tmp_path)
    label(tmp_path)
    hub.put(11, 40)
    mine(hub, tmp_path)
    assert ids(tmp_path) == [*range(1, 10), 11]
    assert label(tmp_path).total() == 10


def test_a_file_shorter_than_its_state_says_is_refused(hub: Hub, tmp_path: Path) -> None:
    mine(hub, tmp_path)
    (tmp_path / "octo+hello.jsonl").write_text("{}\n")
    with pytest.raises(DataError, match=r"fewer lines than .*octo\+hello\.state\.json says"):
        mine(hub, tmp_path)


def test_bots_are_left_out_and_counted(hub: Hub, tmp_path: Path) -> None:
    hub.put(5, 5, user="renovate[bot]")
    mined = mine(hub, tmp_path)
    assert ids(tmp_path) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert (mined.comments, mined.bots) == (8, 1)


def test_a_state_that_cannot_be_read_is_named(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "octo+hello.state.json").write_text("{")
    with pytest.raises(DataError, match=r"octo\+hello\.state\.json does not say how far"):
        mine(hub, tmp_path)
