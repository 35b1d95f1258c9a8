from collections.abc import Callable
from pathlib import Path

from sentinelctl.chaos.experiments import EXPERIMENTS
from sentinelctl.chaos.journal import Journal
from tests.sentinelctl.chaos.test_journal import ENDED, as_of_a_run_that_is_gone

from .conftest import Ran

Ctl = Callable[..., Ran]


def test_the_list_has_every_experiment_and_what_it_does(ctl: Ctl) -> None:
    listed = ctl("chaos", "list", "--json").document["experiments"]
    assert [one["experiment"] for one in listed] == [one.name for one in EXPERIMENTS]
    shown = ctl("chaos", "list")
    assert shown.code == 0
    for one in EXPERIMENTS:
        assert one.name in shown.out
        assert one.fault.what in shown.out


def test_a_run_needs_to_be_told_what(ctl: Ctl) -> None:
    for words, said in (
        (["run"], "no experiment is named"),
        (["run", "kill-cat"], "no experiment is named 'kill-cat'"),
    ):
        ran = ctl("chaos", *words)
        assert ran.code == 2
        assert said in ran.err
        assert "chaos list" in ran.err


def test_healing_undoes_what_is_left_says_so_and_has_nothing_to_do_the_second_time(ctl: Ctl, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "chaos" / "a-run"
    journal = Journal.begun(folder)
    journal.note(ENDED)
    assert ctl("chaos", "heal", "--json").document["healed"] == [], "it goes on"
    as_of_a_run_that_is_gone(journal)
    (healed,) = ctl("chaos", "heal", "--json").document["healed"]
    assert healed == {"run": "a-run", "undone": ["nobody had ended"]}
    again = ctl("chaos", "heal")
    assert (again.code, again.err.strip()) == (0, "nothing to heal")
    assert not folder.exists()
