# ruff: noqa: E402
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from model import checkpoint, dataset
from model.config import RECIPES, TrainConfig, load_recipe
from model.dataset import DataError, Rows
from model.encoder import Encoder
from model.engine import load_engine, review
from model.evaluate import probabilities
from model.inputs.diff import LineKind, number_lines
from model.inputs.tokenizer import Tokenizer
from model.labels import load_concepts
from model.train import _begin_from, _keep_losses, _losses, average, batches, device_of, fit, schedule, train
from tests.model import made
from tests.model.conftest import Trained

pytestmark = pytest.mark.train
SMOKE = load_recipe(RECIPES / "smoke.toml")
CONCEPTS = [concept for concept in load_concepts() if concept.id in made.CONCEPTS]


def rows_of(data: Path, split: dataset.Split, tokenizer: Tokenizer) -> Rows:
    return dataset.build(dataset.read(data, split), tokenizer, CONCEPTS, Counter(), SMOKE.encoder.max_tokens)


def new_encoder(tokenizer: Tokenizer, seed: int = 7) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(replace(SMOKE.encoder, vocab_size=len(tokenizer)), 1 + len(CONCEPTS))


def loss(encoder: Encoder, rows: Rows) -> float:
    logits = torch.from_numpy(probabilities(encoder, rows, raw=True))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(rows.labels.astype(np.int64))))


def test_loss_falls_on_repositories_that_were_not_trained_on(trained: Trained, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    encoder, unseen = new_encoder(tokenizer), rows_of(trained.data, "validation", tokenizer)
    before = loss(encoder, unseen)
    config = replace(SMOKE.train, max_steps=60)
    fit(encoder, rows_of(trained.data, "train", tokenizer), config, tmp_path, trained.said.append, made.still)
    assert loss(encoder, unseen) < 0.3 * before


def test_the_weights_load_in_the_engine_and_find_the_pattern_in_lines_never_seen(trained: Trained) -> None:
    lines: list[tuple[LineKind, str]] = [
        ("ctx", "    try:"),
        ("add", "        total_header_path = load(socket_total_window)"),
        ("add", "    except:"),
        ("add", "        print(total_header_path)"),
        ("add", "        return socket_total_window_record"),
        ("ctx", "    try:"),
        ("add", "        client_answer_column = load(path_parser_header)"),
        ("add", "    except path_parser_header.Missing:"),
        ("add", "        log.info(client_answer_column)"),
        ("add", "        return path_parser_header_column"),
    ]
    known = {line.text for record in dataset.read(trained.data, "train") for line in record.hunk.lines}
    assert {text for _, text in lines} & known == {"    try:", "    except:"}
    hunk = number_lines("lib/unheard.py", (1, 2), (1, len(lines)), "", lines)
    (found,) = review(load_engine(weights=trained.weights, threads=1), [hunk])
    assert [(each.line, each.concept, each.severity) for each in found if each.confidence > 0.5] == [
        (3, "bare_except", "bug"),
        (4, "debug_print", "suggestion"),
    ]


def test_the_manifest_names_files_data_and_training_as_they_are(trained: Trained) -> None:
    manifest = json.loads((trained.weights / "manifest.json").read_text("utf-8"))
    names = {"encoder.int8.onnx", "encoder.safetensors", "tokenizer.model"}
    assert {path.name for path in trained.weights.iterdir()} == {*names, "manifest.json"}
    assert manifest["files"] == {
        name: hashlib.sha256((trained.weights / name).read_bytes()).hexdigest() for name in names
    }
    assert (manifest["concepts"], manifest["languages"]) == (list(made.CONCEPTS), ["python"])
    assert set(manifest["thresholds"]) == set(made.CONCEPTS)
    assert manifest["heldout"] == {}
    assert manifest["config"]["vocab_size"] == len(Tokenizer.load(trained.weights / "tokenizer.model"))
    records = list(dataset.read_learned(trained.data))
    assert manifest["data"] == {
        "repositories": 6,
        "lines": 4 * len(records),
        "lines_with_a_finding": sum(dataset.counts(records).values()),
        "lines_of_language": {"python": 4 * len(records)},
        "digest": dataset.digest(trained.data),
    }
    training = manifest["training"]
    assert (training["recipe"], training["seed"], training["threads"]) == ("smoke", SMOKE.train.seed, 1)
    assert f"torch {torch.__version__}" in training["machine"]


def test_progress_tells_the_data_the_loss_and_how_int8_compares(trained: Trained) -> None:
    told = "\n".join(trained.said)
    number = 4 * len(list(dataset.read_learned(trained.data)))
    assert f"{number} lines of 6 repositories" in told
    assert "step 100 loss 0." in told
    assert "int8 beside torch on 320 lines: same label 1.000" in told


class Stopped(Exception):
    pass


def ticking(step_s: float, calls: int) -> Callable[[], float]:
    """A clock that moves on with each look at it, and stops the run at the last."""
    ticks: Iterator[int] = iter(range(calls))

    def look() -> float:
        for tick in ticks:
            return tick * step_s
        raise Stopped

    return look


def test_a_run_that_was_stopped_goes_on_where_it_stopped(trained: Trained, tmp_path: Path) -> None:
    config = replace(SMOKE.train, max_steps=60, minutes=1e6)
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    rows, unseen = rows_of(trained.data, "train", tokenizer), rows_of(trained.data, "validation", tokenizer)
    said: list[str] = []
    with pytest.raises(Stopped):
        fit(new_encoder(tokenizer), rows, config, tmp_path, said.append, ticking(70, calls=1 + 3 * 20))
    assert {path.name for path in tmp_path.iterdir()} == {"state.pt", "losses.tsv"}
    kept = torch.load(tmp_path / "state.pt", weights_only=True)
    assert 10 < kept["step"] < 60

    encoder = new_encoder(tokenizer, seed=8)
    fit(
        encoder, rows, replace(config, max_steps=kept["step"]), tmp_path, said.append, made.still
    )  # no step is left to do
    assert said == [f"going on from step {kept['step']}, {kept['spent_s'] / 60:.1f} minutes in"]
    assert all(torch.equal(value, kept["encoder"][name]) for name, value in encoder.state_dict().items())
    before = loss(encoder, unseen)

    minutes = fit(encoder, rows, config, tmp_path, said.append, made.still)
    assert loss(encoder, unseen) < 0.5 * before
    assert minutes == kept["spent_s"] / 60  # the second part's clock stood still


def test_a_second_call_keeps_the_tokenizer_of_the_first(trained: Trained, tmp_path: Path) -> None:
    """More data may come in between; pieces learned anew would not fit the weights."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "tokenizer.model").write_bytes(made.tokenizer().model)
    recipe = replace(SMOKE, train=replace(SMOKE.train, max_steps=1))
    train(recipe, trained.data, tmp_path / "out", run, trained.said.append, made.still)
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == made.tokenizer().model


def test_of_test_repositories_only_what_copies_their_lines_matters(tmp_path: Path) -> None:
    recipe, digests = replace(SMOKE, train=replace(SMOKE.train, max_steps=3)), []
    for run, text in enumerate(("nothing(that_others_have, {})", "another = text_that_nobody_has[{}]")):
        data = made.write_all(tmp_path / f"data{run}")
        for repository in made.named("test", 2):
            lines = [made.record(repository, ("add", text.format(n)), labels={0: ["debug_print"]}) for n in range(200)]
            made.write(data, repository, lines)
        out = tmp_path / f"out{run}"
        train(recipe, data, out, tmp_path / f"run{run}", lambda _: None, made.still)
        digests.append(checkpoint.read_manifest(out)["digest"])
    assert digests[0] == digests[1]


def test_the_same_seed_and_data_give_the_same_weights(trained: Trained, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    rows = rows_of(trained.data, "train", tokenizer)
    config = replace(SMOKE.train, max_steps=5)
    ends = []
    for seed in (7, 7, 8):
        encoder = new_encoder(tokenizer)
        fit(encoder, rows, replace(config, seed=seed), tmp_path / "none", lambda _: None, made.still)
        ends.append(torch.cat([parameter.flatten() for parameter in encoder.parameters()]))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_the_clock_ends_a_run_as_well(trained: Trained, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    rows, config = rows_of(trained.data, "train", tokenizer), replace(SMOKE.train, minutes=1)
    minutes = fit(new_encoder(tokenizer), rows, config, tmp_path, lambda _: None, ticking(2, calls=10_000))
    assert 1 <= minutes < 1.2


@pytest.mark.parametrize(
    ("done", "factor"), [(0, 0), (0.05, 0.5), (0.1, 1), (0.5, 1), (0.8, 1), (0.9, 0.5), (0.95, 0.25), (1, 0)]
)
def test_the_rate_warms_up_holds_and_falls_to_zero(done: float, factor: float) -> None:
    assert schedule(done, TrainConfig(warmup=0.1, decay=0.2)) == pytest.approx(factor)


def test_batches_hold_each_drawn_row_once_an_epoch_with_rows_of_like_length_together(trained: Trained) -> None:
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    rows = rows_of(trained.data, "train", tokenizer)
    drawn = batches(rows, np.ones(len(rows)), 50, np.random.default_rng(1))
    first = [next(drawn) for _ in range(-(-len(rows) // 50))]
    assert sorted(np.concatenate(first).tolist()) == list(range(len(rows)))
    assert max(map(len, first)) == 50
    spread = [np.ptp(rows.lengths[batch]) for batch in first]
    assert np.mean(spread) < 0.5 * np.ptp(rows.lengths)
    assert [np.mean(rows.lengths[batch]) for batch in first] != sorted(np.mean(rows.lengths[batch]) for batch in first)


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (("validation", "test"), "no line to train on; `sentinelctl data stats` shows the splits"),
        (("train",), "no concept has 12 lines in the training repositories of "),
    ],
)
def test_data_that_cannot_teach_is_refused_with_what_to_mine(
    splits: tuple[dataset.Split, ...], message: str, tmp_path: Path
) -> None:
    for split in splits:
        for repository in made.named(split, 1):
            lines = [made.record(repository, ("add", f"value = {n}")) for n in range(300)]
            made.write(tmp_path / "data", repository, lines)
    with pytest.raises(DataError) as caught:
        train(SMOKE, tmp_path / "data", tmp_path / "out", tmp_path / "run", lambda _: None)
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_cosine_falls_all_along_after_its_warm_up() -> None:
    config = TrainConfig(warmup=0.1, schedule="cosine")
    assert [round(schedule(done, config), 4) for done in (0, 0.05, 0.1, 0.55, 1)] == [0, 0.5, 1, 0.5, 0]
    rates = [schedule(done / 100, config) for done in range(10, 101)]
    assert rates == sorted(rates, reverse=True)


def test_a_device_that_torch_does_not_find_is_refused_and_auto_takes_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        assert device_of(TrainConfig(device="auto")).type == name
    with pytest.raises(DataError, match=r"finds no cuda here; set train\.device to auto or cpu"):
        device_of(TrainConfig(device="cuda"))
    assert device_of(TrainConfig()).type == "cpu"


class Trap:
    """A pickle that makes a file when it is loaded by one who trusts it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("kind", ["empty", "cut", "code", "other"])
def test_a_state_that_cannot_be_gone_on_from_is_refused_with_a_way_out(
    kind: str, trained: Trained, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(trained.run / "tokenizer.model")
    rows, state = rows_of(trained.data, "validation", tokenizer), tmp_path / "state.pt"
    config = replace(SMOKE.train, max_steps=1)
    other = {"encoder": {"head.bias": torch.zeros(9)}, "optimizer": {}, "step": 3, "spent_s": 1.0}
    torch.save({"code": Trap(tmp_path / "it ran")} if kind == "code" else other, state)
    if kind in ("empty", "cut"):
        state.write_bytes(state.read_bytes()[: 0 if kind == "empty" else 400])
    with pytest.raises(DataError, match=r"state\.pt cannot be gone on from: .*delete it to begin anew"):
        fit(new_encoder(tokenizer), rows, config, tmp_path, lambda _: None, made.still)
    assert not (tmp_path / "it ran").exists()


def test_a_run_that_goes_on_keeps_the_losses_up_to_its_state(tmp_path: Path) -> None:
    (tmp_path / "losses.tsv").write_text("10\t3.0\n20\t2.0\n30\t1.0\n")
    _keep_losses(tmp_path, 20)
    assert _losses(tmp_path) == [(10, 3.0), (20, 2.0)]
    _keep_losses(tmp_path, 0)
    assert _losses(tmp_path) == []


def test_the_loss_of_a_run_is_drawn_and_falls(trained: Trained) -> None:
    points = _losses(trained.run)
    assert [step for step, _ in points] == list(range(10, SMOKE.train.max_steps + 1, 10))
    assert points[-1][1] < points[0][1] / 2
    assert (trained.run / "loss.svg").read_text().startswith("<svg")


def test_a_run_can_begin_from_weights_whose_concepts_are_others(trained: Trained, tmp_path: Path) -> None:
    tokenizer = Tokenizer.load(trained.weights / "tokenizer.model")
    earlier, _, manifest = checkpoint.load(trained.weights)
    concepts = [CONCEPTS[1], next(each for each in load_concepts() if each.id == "eval_exec"), CONCEPTS[0]]
    fresh = Encoder(earlier.config, 1 + len(concepts))
    own = fresh.head.weight[2].clone()
    assert _begin_from(fresh, earlier, concepts, manifest["concepts"], trained.weights) == 2
    assert torch.equal(fresh.token.weight, earlier.token.weight)
    for now, before in ((0, 0), (1, 2), (3, 1)):
        assert torch.equal(fresh.head.weight[now], earlier.head.weight[before])
    assert torch.equal(fresh.head.weight[2], own)
    rows = rows_of(trained.data, "validation", tokenizer)
    chances = probabilities(fresh, rows)
    assert ((chances.argmax(1) > 0) == (rows.labels > 0)).mean() > 0.9  # before a single step


def test_weights_begun_from_others_can_be_the_mean_of_both(trained: Trained) -> None:
    earlier, _, manifest = checkpoint.load(trained.weights)
    by_id = {concept.id: concept for concept in load_concepts()}
    known = manifest["concepts"]
    concepts = [by_id["eval_exec"], *(by_id[name] for name in known)]
    now = Encoder(earlier.config, 1 + len(concepts))
    learned = {name: value.clone() for name, value in now.state_dict().items()}
    average(now, earlier, concepts, known, 0.75)
    old, mean = earlier.state_dict(), now.state_dict()
    assert torch.equal(mean["head.weight"][1], learned["head.weight"][1])  # nobody knew it before
    assert torch.allclose(mean["head.weight"][2:], 0.25 * old["head.weight"][1:] + 0.75 * learned["head.weight"][2:])
    for name in old:
        if not name.startswith("head."):
            assert torch.allclose(mean[name], 0.25 * old[name] + 0.75 * learned[name], atol=1e-6)


def test_a_run_that_begins_from_weights_keeps_the_concepts_that_its_own_data_lacks(
    trained: Trained, tmp_path: Path
) -> None:
    one = {concept.id for concept in CONCEPTS[:1]}
    for path in trained.data.glob("*.jsonl"):
        records = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [record for record in records if {each for said in record["labels"].values() for each in said} <= one]
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / path.name).write_text("".join(json.dumps(record) + "\n" for record in kept))
    brief = replace(SMOKE, train=replace(SMOKE.train, max_steps=2))
    train(
        brief, tmp_path / "data", tmp_path / "out", tmp_path / "run", lambda _: None, made.still, start=trained.weights
    )
    before, after = (checkpoint.load(each)[2] for each in (trained.weights, tmp_path / "out"))
    assert after["concepts"] == before["concepts"]
    assert after["training"]["begun_from"]["digest"] == before["digest"]


def test_weights_of_another_shape_are_refused_with_what_differs(trained: Trained, tmp_path: Path) -> None:
    other = replace(SMOKE, encoder=replace(SMOKE.encoder, layers=1))
    with pytest.raises(DataError, match=r"another shape than the recipe: layers 2 there, 1 here; use a recipe"):
        train(other, trained.data, tmp_path, tmp_path / "run", lambda _: None, made.still, start=trained.weights)
