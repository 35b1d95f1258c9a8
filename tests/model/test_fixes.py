# ruff: noqa: E402
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import fixes
from model.config import EncoderConfig
from model.dataset import Record, record_of
from model.encoder import Encoder
from tests.model import made

pytestmark = pytest.mark.train
SUBJECTS = ("model", "linear", "size_only")


def fixed(repository: str, n: int, before: str, after: str) -> Record:
    lines = (("ctx", f"def check_{n}(value):"), ("del", before), ("add", after), ("ctx", "    return value"))
    return record_of(made.record(repository, *lines, hunk=[4, 3, 4, 3, ""]))


def histories(names: list[str], number: int, *, is_telling: bool) -> list[Record]:
    """Fixes that turn `== None` into `is None`, or at random into one or the other; no word is in two histories."""
    chance = np.random.default_rng([ord(char) for char in "".join(names)])
    records = []
    for name in names:
        for n in range(number):
            word = "".join(chance.choice(list("abcdefgh"), 5))
            sides = [f"    if {word} == None:", f"    if {word} is None:"]
            if not is_telling and chance.random() < 0.5:
                sides.reverse()
            records.append(fixed(name, n, *sides))
    return records


def network() -> Encoder:
    torch.manual_seed(5)
    return Encoder(EncoderConfig(vocab_size=len(made.tokenizer()), width=32, layers=1, heads=2, hidden=32), 3).eval()


def test_both_sides_of_a_fix_are_rows_of_its_own_lines() -> None:
    found = fixes.pairs([fixed("a/b", 1, "    if x == None:", "    if x is None:")], made.tokenizer(), 96)
    assert (len(found), found.repositories, found.hunk.tolist()) == (1, ("a/b",), [0, 1])
    assert [own for own, _, _ in found.rows.texts] == ["    if x is None:", "    if x == None:"]
    assert {around for _, *around in found.rows.texts for around in around} == {
        "def check_1(value):", "    return value"
    }  # fmt: skip


def test_what_a_fix_took_away_is_told_from_what_it_put_there_where_something_tells_it() -> None:
    found = fixes.judge(
        network(),
        made.tokenizer(),
        histories(made.named("train", 4), 60, is_telling=True),
        histories(made.named("test", 3), 30, is_telling=True),
        7,
    )
    assert {name: told["pairs"] for name, told in found.items()} == dict.fromkeys(SUBJECTS, 90)
    assert found["linear"]["auc"] > 0.95
    assert found["model"]["auc_encoder"] > 0.7  # a network that was never trained
    assert found["size_only"]["auc"] == pytest.approx(0.5, abs=0.02)  # as long before as after
    for told in found.values():
        low, high = told["interval"]
        assert low <= told["auc"] <= high


def test_where_nothing_tells_it_nobody_knows_it() -> None:
    found = fixes.judge(
        network(),
        made.tokenizer(),
        histories(made.named("train", 4), 60, is_telling=False),
        histories(made.named("test", 3), 60, is_telling=False),
        7,
    )
    for told in found.values():
        assert told["auc"] == pytest.approx(0.5, abs=0.1)


def test_without_pairs_there_is_no_figure() -> None:
    found = fixes.judge(network(), made.tokenizer(), [], [], 7)
    assert found == {name: {"pairs": 0, "auc": None, "interval": [None, None]} for name in SUBJECTS}


def test_more_pairs_than_are_wanted_are_drawn_evenly() -> None:
    records = histories(made.named("train", 4), 25, is_telling=True)
    some = fixes.pairs(records, made.tokenizer(), 96, most=40)
    assert len(some) == 40
    assert len(set(some.repositories)) == 4
