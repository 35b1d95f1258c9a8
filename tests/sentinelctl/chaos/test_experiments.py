import pytest

from sentinelctl.chaos.experiments import EXPERIMENTS, chosen
from sentinelctl.errors import UsageError
from services.contract import Role


def test_each_has_a_name_of_its_own_and_says_what_it_does() -> None:
    names = [one.name for one in EXPERIMENTS]
    assert len(set(names)) == len(names)
    assert all(one.fault.what for one in EXPERIMENTS)


def test_every_role_is_killed_and_paused() -> None:
    names = {one.name for one in EXPERIMENTS}
    assert {f"{how}-{role.value}" for how in ("kill", "pause") for role in Role} <= names


def test_they_come_in_the_order_asked_for_and_once() -> None:
    assert [one.name for one in chosen(["disk-full", "kill-webhook", "disk-full"])] == ["disk-full", "kill-webhook"]


def test_one_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match="no experiment is named 'kill-cat'"):
        chosen(["kill-webhook", "kill-cat"])
