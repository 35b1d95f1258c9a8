import dataclasses
import json
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from model import dataset
from model.config import TrainConfig
from model.dataset import NONE, DataError, Record, Rows, record_of, split_of
from model.inputs.chunk import chunks
from model.labels import Concept, load_concepts
from tests.model import made

CATALOG = {concept.id: concept for concept in load_concepts()}
CONCEPTS = [CATALOG[name] for name in ("debug_print", "bare_except", "missing_docstring", "eval_exec")]


def build(
    *records: dict[str, object], concepts: list[Concept] = CONCEPTS, frequency: dict[str, int] | None = None
) -> Rows:
    read = [record_of(record) for record in records]
    return dataset.build(read, made.tokenizer(), concepts, Counter(frequency or {}), 96)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("made/up5", "test"),  # 0
        ("pypa/pip", "test"),  # 1
        ("made/up6", "validation"),  # 2
        ("made/up4", "train"),  # 3
        ("made/up19", "train"),  # f
    ],
)
def test_the_first_digit_of_a_name_s_sha256_says_its_split(name: str, split: str) -> None:
    assert split_of(name) == split


def test_a_split_reads_its_own_repositories_and_opens_no_other(tmp_path: Path) -> None:
    names = {split: made.named(split, 2) for split in dataset.SPLITS}
    for repository in (*names["train"], *names["validation"]):
        made.write(tmp_path, repository, [made.record(repository, ("add", "x = 1"))] * 3)
    for repository in names["test"]:
        (tmp_path / f"{repository.replace('/', '+')}.jsonl").write_text("never read")
    (tmp_path / "made+up3.part").write_text("being mined")
    for split in ("train", "validation"):
        assert [record.repository for record in dataset.read(tmp_path, split)] == [
            name for name in sorted(names[split]) for _ in range(3)
        ]


def test_a_name_with_a_plus_of_its_own_stays_in_its_split(tmp_path: Path) -> None:
    made.write(tmp_path, "local/sqlite++", [made.record("local/sqlite++", ("add", "x"))])
    assert {split: len(list(dataset.read(tmp_path, split))) for split in dataset.SPLITS} == {
        "train": 0,
        "validation": 0,
        split_of("local/sqlite++"): 1,
    }


def test_a_record_becomes_a_hunk_with_its_real_line_numbers() -> None:
    lines = (("ctx", "a"), ("del", "b"), ("add", "except:"), ("add", "d"))
    record = record_of(
        made.record("made/up1", *lines, labels={2: ["bare_except"]}, hunk=[7, 2, 9, 90, "def f():"], unsure=[3])
    )
    assert [(line.kind, line.old, line.new) for line in record.hunk.lines] == [
        ("ctx", 7, 9), ("del", 8, None), ("add", None, 10), ("add", None, 11),
    ]  # fmt: skip
    assert (record.hunk.old_lines, record.hunk.new_lines) == (2, 3)  # of the lines kept, not of the hunk that was cut
    assert record.labels == {2: ("bare_except",)}
    assert record.unsure == {3}


def test_labels_follow_the_catalog_of_the_day_they_are_read() -> None:
    """What a line excuses is clean; what is not asked of such a file is neither a finding nor a clean line."""
    lines = ("os.chmod('a', 0o755)", "os.chmod('b', 0o777)", "x = 1", "except:", "x == None")
    concepts = ("permissive_chmod", "permissive_chmod", "bare_except", "bare_except", "none_eq_compare")

    def read(path: str) -> Record:
        labels = {at: [concept] for at, concept in enumerate(concepts)}
        return record_of(made.record("made/up1", *(("add", line) for line in lines), labels=labels, path=path))

    kept = {at: (concept,) for at, concept in enumerate(concepts) if at not in (0, 2)}
    assert (read("a.py").labels, read("a.py").unsure) == (kept, frozenset())
    del kept[1], kept[3]
    assert (read("tests/a.py").labels, read("tests/a.py").unsure) == (kept, frozenset({1, 3}))


def test_every_added_line_that_is_not_blank_is_a_row_with_its_label() -> None:
    lines = (("ctx", "try:"), ("add", "  run()"), ("add", ""), ("del", "x"), ("add", "except:"), ("add", "  pass"))
    rows = build(made.record("made/up1", *lines, labels={4: ["bare_except"]}), made.record("made/up2", ("add", "y")))
    assert rows.labels.tolist() == [NONE, 2, NONE, NONE]
    assert rows.sizes.tolist() == [3, 3, 3, 1]
    assert [rows.names[at] for at in rows.repositories] == ["made/up1"] * 3 + ["made/up2"]
    assert [rows.spoken[at] for at in rows.languages] == ["python"] * 4
    assert rows.texts[1] == ("except:", "  run()", "  pass")
    assert rows.texts[3] == ("y", "", "")


def test_a_row_s_tokens_are_those_that_serving_reads() -> None:
    record = made.record("made/up1", ("ctx", "try:"), ("add", "  run()"), ("add", "except:"))
    rows = build(record)
    (chunk,) = chunks(record_of(record).hunk, made.tokenizer())
    assert len(rows) == 2
    for at, row in enumerate(chunk.rows):
        assert rows.tokens[rows.starts[at] : rows.starts[at + 1]].tolist() == row.tolist()
    assert rows.lengths.tolist() == [len(row) for row in chunk.rows]


def test_a_line_nobody_could_speak_about_is_no_row() -> None:
    rows = build(made.record("made/up1", ("add", "except:"), ("add", "y"), labels={0: ["bare_except"]}, unsure=[1]))
    assert rows.labels.tolist() == [2]


@pytest.mark.parametrize(
    ("said", "chosen"),
    [
        (["missing_docstring", "debug_print"], "debug_print"),
        (["debug_print", "bare_except"], "bare_except"),
        (["bare_except", "eval_exec", "debug_print"], "eval_exec"),
    ],
)
def test_of_several_concepts_the_gravest_is_the_label(said: list[str], chosen: str) -> None:
    rows = build(made.record("made/up1", ("add", "except eval"), labels={0: said}), frequency={"eval_exec": 900})
    assert CONCEPTS[rows.labels[0] - 1].id == chosen


def test_of_two_equally_grave_concepts_the_rarer_is_the_label() -> None:
    concepts = [CATALOG["debug_print"], CATALOG["broad_except"]]
    assert concepts[0].severity == concepts[1].severity
    line = ("add", "except Exception: print(x)")
    record = made.record("made/up1", line, labels={0: ["broad_except", "debug_print"]})
    for frequency, chosen in (({"debug_print": 9, "broad_except": 2}, 2), ({"debug_print": 1, "broad_except": 2}, 1)):
        assert build(record, concepts=concepts, frequency=frequency).labels.tolist() == [chosen]


def test_a_concept_that_has_no_column_leaves_the_line_clean() -> None:
    assert build(
        made.record("made/up1", ("add", "except Exception:"), labels={0: ["broad_except"]})
    ).labels.tolist() == [NONE]


def test_no_record_gives_no_row() -> None:
    rows = build()
    assert (len(rows), rows.names, rows.lengths.tolist()) == (0, (), [])


def test_padded_rows_end_in_zeros() -> None:
    rows = build(made.record("made/up1", ("add", "x = 1"), ("add", "def main(argument):")))
    batch = rows.padded([1, 0])
    assert batch.shape == (2, max(rows.lengths))
    for at, row in enumerate((1, 0)):
        length = int(rows.lengths[row])
        assert batch[at, :length].tolist() == rows.tokens[rows.starts[row] : rows.starts[row + 1]].tolist()
        assert not batch[at, length:].any()
    wider = rows.padded([1, 0], multiple=8)
    assert wider.shape == (2, -(-batch.shape[1] // 8) * 8)
    assert np.array_equal(wider[:, : batch.shape[1]], batch)
    assert not wider[:, batch.shape[1] :].any()


def test_a_fault_put_in_that_the_catalog_excuses_is_none() -> None:
    lines = [("add", "eval(x)"), ("add", 'eval "$(direnv hook zsh)"')]
    record = made.record("made/up1", *lines, labels={0: ["eval_exec"], 1: ["eval_exec"]}, injected=[0, 1])
    assert record_of(record).injected == {0}


def test_some_rows_keep_what_belongs_to_them() -> None:
    rows = build(
        *(
            made.record(f"made/up{n}", ("add", f"x = {n}"), labels={0: ["debug_print"]} if n % 2 else {})
            for n in range(6)
        )
    )
    for kept in (np.array([False, True] * 3), np.array([1, 3, 5])):
        some = dataset.only(rows, kept)
        assert some.labels.tolist() == [1, 1, 1]
        assert [own for own, _, _ in some.texts] == ["x = 1", "x = 3", "x = 5"]
        assert [some.names[at] for at in some.repositories] == ["made/up1", "made/up3", "made/up5"]


def test_concepts_are_counted_once_a_line_each() -> None:
    records = [
        record_of(made.record("made/up1", ("add", "x"), ("add", "y"), labels={0: ["a", "b"], 1: ["a"]})),
        record_of(made.record("made/up1", ("add", "z"))),
    ]
    assert dataset.counts(records) == {"a": 2, "b": 1}


def rows_of(labels: list[int], injected: list[bool] | None = None) -> Rows:
    """Rows of which nothing but the label is told."""
    record = made.record("made/up1", ("add", "x"))
    row = build(record)
    at = np.zeros(len(labels), int)
    return dataclasses.replace(
        dataset.only(row, at),
        labels=np.array(labels, np.int16),
        is_injected=np.array(injected or [False] * len(labels)),
    )


def test_rare_concepts_are_drawn_more_often_and_clean_lines_less() -> None:
    labels = np.repeat([0, 1, 2, 3], [1000, 400, 100, 1])
    config = TrainConfig(negatives=0.25, temper=0.5, max_repeat=8)
    rates, bend = dataset.sampling_rates(rows_of(labels.tolist()), 5, config)
    assert [rates[labels == label][0] for label in range(4)] == [0.25, 1, 2, 8]  # (400 / n) ** .5, at most 8
    assert bend.tolist() == [0.25, 1, 2, 8, 8]
    drawn = dataset.epoch(rates, np.random.default_rng(1))
    times = np.bincount(labels[drawn], minlength=4)
    assert times[1:].tolist() == [400, 200, 8]
    assert 180 < times[0] < 320
    assert len(set(drawn[labels[drawn] == 0])) == times[0]  # no clean line twice


def test_faults_put_there_fill_no_more_than_their_share_and_bend_what_is_believed_of_their_concept() -> None:
    labels = [NONE] * 80 + [1] * 10 + [2] * 10 + [2] * 90
    injected = [False] * 100 + [True] * 90
    config = TrainConfig(negatives=1, temper=0, injected=0.25)
    rates, bend = dataset.sampling_rates(rows_of(labels, injected), 4, config)
    assert rates[:100].tolist() == [1] * 100
    assert rates[100:].sum() / rates.sum() == pytest.approx(0.25)
    assert bend[:2].tolist() == [1, 1]
    assert bend[2] == pytest.approx((10 + 100 / 3) / 10)  # drawn, to how many histories have


def test_the_lines_beside_a_fault_that_was_put_there_are_rows_only_where_they_are_asked_for() -> None:
    record = record_of(
        made.record("made/up1", ("add", "x = 1"), ("add", "eval(x)"), labels={1: ["eval_exec"]}, injected=[1])
    )
    asked = [
        dataset.build([record], made.tokenizer(), CONCEPTS, Counter(), 96, beside_injected=beside)
        for beside in (True, False)
    ]
    assert [rows.labels.tolist() for rows in asked] == [[NONE, 4], [4]]
    assert [rows.is_injected.tolist() for rows in asked] == [[False, True], [True]]


@pytest.mark.parametrize("draw", dataset.DRAWS)
def test_a_file_s_name_says_repository_and_draw(draw: dataset.Draw) -> None:
    for name in ("owner/name", "local/sqlite++", "owner/a.b"):
        assert dataset.of_file(Path(dataset.file_name(name, draw))) == (name, draw)


def test_draws_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    name = made.named("train", 1)[0]
    for draw in dataset.DRAWS:
        (tmp_path / dataset.file_name(name, draw)).write_text(json.dumps(made.record(name, ("add", draw))) + "\n")

    def texts(*draws: dataset.Draw) -> set[str]:
        read = dataset.read(tmp_path, "train", draws) if draws else dataset.read(tmp_path, "train")
        return {record.hunk.lines[0].text for record in read}

    assert texts() == {"sample"}
    assert texts("grave", "fixes") == {"grave", "fixes"}
    learned = [record.hunk.lines[0].text for record in dataset.read_learned(tmp_path)]
    assert sorted(learned) == sorted(dataset.LEARNED)


@pytest.mark.parametrize("draw", ["sample", "grave"])
def test_hunks_that_held_out_repositories_have_too_are_not_learned(draw: dataset.Draw, tmp_path: Path) -> None:
    vendored = [("add", f"long_enough_line_number_{n} = compute()") for n in range(6)]
    short = [("add", "}"), ("add", "return"), ("add", "i += 1"), ("add", "else:")]
    (trained,), (held_out,) = made.named("train", 1), made.named("validation", 1)
    made.write(tmp_path, held_out, [made.record(held_out, *vendored, *short)])
    (tmp_path / dataset.file_name(held_out, "sample")).rename(tmp_path / dataset.file_name(held_out, draw))
    copies = [
        made.record(trained, *vendored),
        made.record(trained, *((kind, f"    {text}") for kind, text in vendored)),  # indented otherwise
        made.record(trained, *vendored[:3], ("add", "a_line_of_their_own(value)"), *short),
    ]
    own = [
        made.record(trained, *vendored[:2], ("add", "x")),  # too few to tell
        made.record(trained, *short),  # anybody's
        made.record(trained, *vendored[:3], *(("add", f"a_line_of_their_own({n})  # yes") for n in range(4))),
        made.record(trained, *((("del", text)) for _, text in vendored), ("add", "x")),
    ]
    made.write(tmp_path, trained, [*copies, *own])
    assert [len(record.hunk.lines) for record in dataset.read_learned(tmp_path)] == [len(each["lines"]) for each in own]


def test_a_piece_of_a_file_is_a_copy_by_a_single_line(tmp_path: Path) -> None:
    (trained,), (held_out,) = made.named("train", 1), made.named("test", 1)
    vendored = [("add", f"long_enough_line_number_{n} = compute()") for n in range(2)]
    made.write(tmp_path, held_out, [made.record(held_out, *vendored)])
    pieces = [made.record(trained, vendored[0]), made.record(trained, ("add", "a_line_of_their_own(value)"))]
    made.write(tmp_path, trained, pieces)
    assert len(list(dataset.read_learned(tmp_path))) == 2
    (tmp_path / dataset.file_name(trained, "sample")).rename(tmp_path / dataset.file_name(trained, "whole"))
    assert [record.hunk.lines[0].text for record in dataset.read_learned(tmp_path)] == ["a_line_of_their_own(value)"]


def test_an_epoch_is_in_another_order_each_time_and_the_same_for_the_same_seed() -> None:
    rates = np.ones(100)
    chance = np.random.default_rng(1)
    first, second = (dataset.epoch(rates, chance).tolist() for _ in range(2))
    assert first != second
    assert sorted(first) == sorted(second) == list(range(100))
    assert first == dataset.epoch(rates, np.random.default_rng(1)).tolist()


def test_the_tokenizer_learns_from_lines_of_the_new_files_alone() -> None:
    def records(gone: str) -> list[Record]:
        return [record_of(made.record("made/up1", ("add", f"value = {n}"), ("del", gone))) for n in range(200)]

    one, other = (dataset.learn_tokenizer(records(gone), 400).model for gone in ("x", "deleted lines teach nothing"))
    assert one == other


def test_without_a_line_to_learn_from_the_way_on_is_named() -> None:
    with pytest.raises(DataError, match=r"no line to train on; `sentinelctl data stats`"):
        dataset.learn_tokenizer([], 400)


def test_the_digest_covers_names_and_contents_of_what_was_mined(tmp_path: Path) -> None:
    made.write(tmp_path, "made/up1", [made.record("made/up1", ("add", "x"))])
    digests = [dataset.digest(tmp_path)]
    (tmp_path / "made+up1.json").write_text("a summary is not data")
    assert dataset.digest(tmp_path) == digests[0]
    (tmp_path / "made+up1.jsonl").rename(tmp_path / "made+up2.jsonl")
    digests.append(dataset.digest(tmp_path))
    made.write(tmp_path, "made/up2", [made.record("made/up1", ("add", "y"))])
    digests.append(dataset.digest(tmp_path))
    assert len(set(digests)) == 3


def test_reading_takes_no_more_memory_where_there_is_more_to_read(tmp_path: Path) -> None:
    """A record at a time: ten times the records, the same peak."""
    (trained,), (held_out,) = made.named("train", 1), made.named("test", 1)
    made.write(tmp_path, held_out, [made.record(held_out, ("add", "a_line_that_is_telling(enough)"))])
    peaks = []
    for number in (2_000, 20_000):
        made.write(tmp_path, trained, (made.record(trained, ("add", f"value = {n}")) for n in range(number)))
        tracemalloc.start()
        assert sum(1 for _ in dataset.read_learned(tmp_path)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
