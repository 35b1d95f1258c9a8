import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.engine import (
    FORMAT,
    WEIGHTS,
    Manifest,
    ModelError,
    Probabilities,
    ScoringEngine,
    at_precision,
    load_engine,
    passes,
    read_manifest,
    review,
    softmax,
)
from model.inputs.diff import Hunk, number_lines
from model.inputs.tokenizer import Tokenizer, train_tokenizer
from model.labels import Concept, load_concepts

CONCEPTS = ("print_left", "bare_except", "js_only", "not_in_tests")
CATALOG = [
    Concept("print_left", "Print", "style", "nit", ("python",), "Print.", ()),
    Concept("bare_except", "Bare except", "error_handling", "bug", ("python", "shell"), "Bare.", ()),
    Concept("js_only", "Loose", "logic", "critical", ("javascript",), "Loose.", ()),
    Concept("not_in_tests", "Assert", "security", "suggestion", ("*",), "Assert.", (), in_tests=False),
    Concept("todo_left", "Todo", "documentation", "nit", ("*",), "Todo.", (("rule", "todo_left"),)),
]
DOUBTFUL = (
    "def load(path, cache=[]):",
    "    try:",
    "        if path == None:",
    "            print(path)",
    "        return eval(open(path).read())",
    "    except:",
    "        pass",
)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    words = [
        "import os",
        "def main(argument):",
        "    return value + 1",
        "try:",
        "except ValueError as exc:",
        "print(x)",
    ]
    return train_tokenizer([f"{word} # {n}" for word in words for n in range(20)], 400)


def added(path: str, *texts: str) -> Hunk:
    return number_lines(path, (0, 0), (1, len(texts)), "", [("add", text) for text in texts])


def scoring(
    tokenizer: Tokenizer, logits: list[float], *, catalog: Sequence[Concept] = CATALOG, **changes: Any
) -> ScoringEngine:
    """An engine that gives every row the same logits."""
    fields: dict[str, Any] = {
        "name": "fake",
        "version": "1",
        "digest": "d",
        "files": {},
        "concepts": CONCEPTS,
        "languages": ("python", "javascript"),
        "temperature": 1.0,
        "thresholds": dict.fromkeys(CONCEPTS, 0.5),
        "document": {},
        **changes,
    }
    answer = np.array(logits, np.float32)
    return ScoringEngine("fake", Manifest(**fields), tokenizer, catalog, lambda batch: np.tile(answer, (len(batch), 1)))


@pytest.fixture
def weights(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A folder as an export writes it; the graph adds up a random row of logits per token."""
    concepts = [concept.id for concept in load_concepts() if not concept.is_rule]
    table = np.random.default_rng(5).normal(size=(len(tokenizer), 1 + len(concepts))).astype(np.float32)
    table[0] = 0
    write_weights(tmp_path, tokenizer.model, table, concepts)
    return tmp_path


def write_weights(folder: Path, tokenizer: bytes, table: np.ndarray, concepts: list[str], **changes: Any) -> None:
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Gather", ["table", "tokens"], ["each"]),
            onnx.helper.make_node("ReduceSum", ["each", "axes"], ["logits"], keepdims=0),
        ],
        "tiny",
        [onnx.helper.make_tensor_value_info("tokens", onnx.TensorProto.INT64, ["rows", "length"])],
        [onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["rows", table.shape[1]])],
        [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    contents = {"encoder.int8.onnx": model.SerializeToString(), "tokenizer.model": tokenizer}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    manifest = {
        "format": FORMAT,
        "name": "tiny",
        "version": "0",
        "digest": "0" * 64,
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()},
        "concepts": concepts,
        "languages": ["python"],
        "temperature": 2.0,
        "thresholds": dict.fromkeys(concepts, 0.3),
        **changes,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit_manifest(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_every_added_line_is_scored_alike_alone_and_in_company(weights: Path) -> None:
    engine = load_engine(weights=weights, threads=1)
    hunks = [
        added("a.py", *[f"value = {'x' * n} + {n}" for n in range(40)]),
        added("b.py", "print(x)", "", "import os"),
    ]
    windows = [engine.encode(hunk) for hunk in hunks]
    together = engine.predict([chunk for window in windows for chunk in window])
    alone = [score for window in windows for chunk in window for score in engine.predict([chunk])]
    assert [score.shape for score in together] == [
        (32, together[0].shape[1]),
        (8, together[0].shape[1]),
        (2, together[0].shape[1]),
    ]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)


def test_the_same_hunks_give_the_same_findings_in_the_order_of_the_lines(weights: Path) -> None:
    engine = load_engine(weights=weights, threads=1)
    hunks = [added("a.py", *[f"line{n} = {n} " for n in range(50)]), added("b.py", "x = 1")]
    first, second = review(engine, hunks), review(engine, hunks)
    assert first == second
    assert [finding.line for finding in first[0]] == sorted(finding.line for finding in first[0])
    assert {finding.concept for finding in first[0]} - {"trailing_whitespace"}


def test_other_weights_give_other_findings(weights: Path, tokenizer: Tokenizer) -> None:
    hunks = [added("a.py", *[f"value_{n} = call({n})" for n in range(30)])]
    before = review(load_engine(weights=weights), hunks)
    concepts = json.loads((weights / "manifest.json").read_text())["concepts"]
    table = np.random.default_rng(6).normal(size=(len(tokenizer), 1 + len(concepts))).astype(np.float32)
    write_weights(weights, tokenizer.model, table, concepts)
    assert review(load_engine(weights=weights), hunks) != before


def test_the_shipped_weights_decide_the_findings_and_shuffled_ones_give_others(tmp_path: Path) -> None:
    for file in filter(Path.is_file, WEIGHTS.iterdir()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "encoder.int8.onnx"
    model, random = onnx.load(str(path)), np.random.default_rng(11)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.size >= 4096:
            shuffled = random.permutation(values.reshape(-1)).reshape(values.shape)
            tensor.CopyFrom(onnx.numpy_helper.from_array(shuffled, tensor.name))
    onnx.save(model, str(path))
    files = json.loads((tmp_path / "manifest.json").read_text())["files"]
    edit_manifest(tmp_path, files={**files, path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    hunks = [added("app/code.py", *Path(__file__).read_text().splitlines()), added("app/store.py", *DOUBTFUL)]
    shipped, other = (review(load_engine(weights=folder, threads=1), hunks) for folder in (WEIGHTS, tmp_path))
    assert any(shipped)
    assert shipped == review(load_engine(threads=1), hunks)
    assert shipped != other


def test_the_likeliest_concept_of_the_language_is_reported_with_its_catalog_entry(tokenizer: Tokenizer) -> None:
    engine = scoring(tokenizer, [0, 1, 3, 9, 0])
    (finding,) = review(engine, [added("a.js", "x == 1")])[0]
    assert (finding.concept, finding.severity, finding.category, finding.text) == (
        "js_only",
        "critical",
        "logic",
        "Loose.",
    )
    assert (finding.path, finding.line, finding.side, finding.is_shown) == ("a.js", 1, "RIGHT", True)
    assert review(engine, [added("a.py", "x")])[0] == ()


def test_a_concept_not_asked_of_tests_is_only_reported_elsewhere(tokenizer: Tokenizer) -> None:
    engine = scoring(tokenizer, [0, 0, 0, 0, 5])
    assert [finding.concept for finding in review(engine, [added("a.py", "assert x")])[0]] == ["not_in_tests"]
    assert review(engine, [added("tests/test_a.py", "assert x")])[0] == ()


def test_where_a_line_excuses_a_concept_the_next_likeliest_is_said(tokenizer: Tokenizer) -> None:
    engine = scoring(
        tokenizer,
        [0, 4, 0, 0, 5],
        catalog=[replace(each, unless=("x$",)) for each in CATALOG if each.id != "print_left"] + CATALOG[:1],
    )
    for line, concepts in (("assert y", ["not_in_tests"]), ("assert x", ["print_left"])):
        assert [finding.concept for finding in review(engine, [added("a.py", line)])[0]] == concepts


@pytest.mark.parametrize(
    ("thresholds", "concept", "is_shown"),
    [
        ({"print_left": 0.9, "bare_except": 0.9}, "bare_except", False),
        ({"print_left": 0.9, "bare_except": 0.4}, "bare_except", True),
        ({"print_left": 0.2, "bare_except": 0.9}, "print_left", True),
        ({}, "bare_except", False),
    ],
)
def test_a_concept_that_reaches_its_threshold_goes_before_a_likelier_one_that_does_not(
    tokenizer: Tokenizer, thresholds: dict[str, float], concept: str, is_shown: bool
) -> None:
    logits = [float(np.log(p)) for p in (0.1, 0.3, 0.58, 0.01, 0.01)]
    engine = scoring(tokenizer, logits, thresholds=thresholds)
    (finding,) = review(engine, [added("a.py", "x")])[0]
    assert (finding.concept, finding.is_shown) == (concept, is_shown)


def test_the_precision_asked_for_chooses_the_thresholds(weights: Path) -> None:
    concepts = json.loads((weights / "manifest.json").read_text())["concepts"]
    kept = {f"{least:g}": dict.fromkeys(concepts, least / 2) for least in (0.6, 0.8)}
    edit_manifest(weights, thresholds_at=kept)
    asked = {precision: at_precision(read_manifest(weights), precision) for precision in (0.3, 0.6, 0.7, 0.8)}
    least = {precision: set(manifest.thresholds.values()) for precision, manifest in asked.items()}
    assert least == {0.3: {0.3}, 0.6: {0.3}, 0.7: {0.4}, 0.8: {0.4}}
    hunks = [added("a.py", *[f"value_{n} = call({n}, {'x' * n})" for n in range(60)])]
    shown = [
        sum(each.is_shown for each in review(load_engine(weights=weights, min_precision=precision), hunks)[0])
        for precision in (0.6, 0.8)
    ]
    assert shown[0] > shown[1]
    with pytest.raises(ModelError, match=r"a precision of 0\.6, 0\.8, and 0\.9 was asked"):
        load_engine(weights=weights, min_precision=0.9)
    edit_manifest(weights, thresholds_at={})
    with pytest.raises(ModelError, match=r"a precision of 0\.6, and 0\.7 was asked"):
        load_engine(weights=weights, min_precision=0.7)


def test_temperature_softens_the_confidence(tokenizer: Tokenizer) -> None:
    sharp, soft = (scoring(tokenizer, [0, 0, 4, 0, 0], temperature=t) for t in (1.0, 2.0))
    hunks = [added("a.py", "x")]
    assert review(soft, hunks)[0][0].confidence == pytest.approx(np.exp(2) / (np.exp(2) + 3), rel=1e-5)
    assert review(sharp, hunks)[0][0].confidence > review(soft, hunks)[0][0].confidence


def test_a_language_not_taught_is_left_to_the_rules(tokenizer: Tokenizer) -> None:
    engine = scoring(tokenizer, [0, 0, 9, 0, 0])
    hunk = added("deploy.sh", "run  # TODO: mend")
    assert engine.skip_reason(hunk) == "language_not_taught"
    assert engine.encode(hunk) == ()
    (finding,) = review(engine, [hunk])[0]
    assert (finding.concept, finding.confidence, finding.is_shown) == ("todo_left", 1.0, True)


def test_rules_and_model_share_one_order(tokenizer: Tokenizer) -> None:
    engine = scoring(tokenizer, [0, 0, 9, 0, 0])
    found = review(engine, [added("a.py", "x  # TODO", "", "y")])[0]
    assert [(finding.line, finding.concept) for finding in found] == [
        (1, "bare_except"),
        (1, "todo_left"),
        (3, "bare_except"),
    ]


def test_nothing_to_read_is_answered_without_a_pass(tokenizer: Tokenizer) -> None:
    engine = scoring(tokenizer, [0, 0, 9, 0, 0])
    assert engine.predict([]) == []
    assert review(engine, []) == []
    gone = number_lines("a.py", (3, 1), (2, 0), "", [("del", "x = 1")])
    assert review(engine, [gone]) == [()]


def test_a_line_is_weighed_for_the_concept_that_is_asked_shown_or_not(tokenizer: Tokenizer) -> None:
    logits = [float(np.log(p)) for p in (0.4, 0.3, 0.2, 0.06, 0.04)]
    engine = scoring(tokenizer, logits)
    hunk = added("a.py", "x", "", "y")
    asked = [(1, "bare_except"), (3, "print_left"), (1, "of_another_tool"), (2, "bare_except"), (9, "bare_except")]
    found = engine.weigh(hunk, asked)
    assert found[:3] == [pytest.approx(0.2), pytest.approx(0.3), pytest.approx(0.6)]  # the last: any finding
    assert found[3:] == [None, None]  # a blank line, and one that is not there
    assert engine.weigh(added("a.zig", "x"), [(1, "bare_except")]) == [None]
    assert engine.weigh(hunk, []) == []


def test_rows_are_as_long_as_the_weights_were_trained_on(tokenizer: Tokenizer) -> None:
    line = "value = other; " * 40
    for longest in (40, 128):
        engine = scoring(tokenizer, [0, 0, 9, 0, 0], document={"config": {"max_tokens": longest}})
        (chunk,) = engine.encode(added("a.py", line, line, line))
        assert max(map(len, chunk.rows)) == longest


def test_a_slot_of_a_text_is_filled_from_the_line_of_the_finding(tokenizer: Tokenizer) -> None:
    catalog = [replace(each, text="Look at {it}.", slots=(("it", r"(\w+)\(", "this"),)) for each in CATALOG]
    engine = scoring(tokenizer, [0, 9, 0, 0, 0], catalog=catalog)
    assert [each.text for each in review(engine, [added("a.py", "call(x)", "y")])[0]] == [
        "Look at `call`.",
        "Look at this.",
    ]


def test_a_line_of_fifty_kilobytes_is_cut(weights: Path) -> None:
    engine = load_engine(weights=weights, threads=1)
    (chunk,) = engine.encode(added("a.py", "x = 1; " * 7000))
    assert len(chunk.rows[0]) <= 128


@given(st.lists(st.integers(1, 128), max_size=200), st.integers(1, 4096))
def test_passes_hold_every_row_once_and_keep_to_the_budget(lengths: list[int], budget: int) -> None:
    batches = passes(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget for batch in batches)
    longest = [lengths[row] for batch in batches for row in batch]
    assert longest == sorted(longest)


def test_softmax_holds_for_large_logits() -> None:
    logits: Probabilities = np.array([[1000.0, 1000.0], [-1000.0, 0.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[0.5, 0.5], [0.0, 1.0]])


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "messages"),
    [
        (
            lambda folder: flip_byte(folder / "encoder.int8.onnx"),
            ["encoder.int8.onnx", "expected SHA-256", "found", "export"],
        ),
        (lambda folder: flip_byte(folder / "tokenizer.model"), ["tokenizer.model", "expected SHA-256", "found"]),
        (lambda folder: (folder / "tokenizer.model").unlink(), ["tokenizer.model cannot be read", "No such file"]),
        (lambda folder: (folder / "manifest.json").unlink(), ["no model at", "inference.weights"]),
        (lambda folder: (folder / "manifest.json").write_text("{"), ["is no JSON"]),
        (lambda folder: (folder / "manifest.json").write_text("[]"), ["format None"]),
        (lambda folder: edit_manifest(folder, format=99), ["format 99", f"reads {FORMAT}", "upgrade Sentinel"]),
        (lambda folder: edit_manifest(folder, format=0), ["format 0", "export the weights anew"]),
        (lambda folder: edit_manifest(folder, temperature=0), ["calibrated by 0.0", "train again"]),
        (lambda folder: edit_manifest(folder, temperature=float("nan")), ["calibrated by nan"]),
        (lambda folder: edit_manifest(folder, thresholds={"bare_except": -1}), ["calibrated by -1.0"]),
        (lambda folder: edit_manifest(folder, files={}), ["does not list tokenizer.model"]),
        (lambda folder: edit_manifest(folder, concepts=None), ["lacks a field or has a wrong one"]),
        (lambda folder: edit_manifest(folder, concepts=["of_yore"]), ["'of_yore'", "concepts.toml"]),
        (lambda folder: edit_manifest(folder, concepts=["bare_except"]), ["columns", "need 2"]),
    ],
)
def test_broken_weights_are_refused_with_what_was_expected_and_found(
    weights: Path, damage: Callable[[Path], object], messages: list[str]
) -> None:
    damage(weights)
    with pytest.raises(ModelError) as caught:
        load_engine(weights=weights)
    for message in messages:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"), [("encoder.int8.onnx", "does not load"), ("tokenizer.model", "SentencePiece")]
)
def test_a_file_that_is_vouched_for_but_no_model_is_refused(weights: Path, name: str, message: str) -> None:
    (weights / name).write_bytes(b"not a model")
    files = json.loads((weights / "manifest.json").read_text())["files"]
    edit_manifest(weights, files={**files, name: hashlib.sha256(b"not a model").hexdigest()})
    with pytest.raises(ModelError, match=message):
        load_engine(weights=weights)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ModelError, match="there are onnx and torchscript"):
        load_engine("tensorflow")


def test_torchscript_is_code_and_is_refused_unless_the_manifest_vouches_for_it(weights: Path) -> None:
    (weights / "encoder.torchscript.pt").write_bytes(b"anything")
    with pytest.raises(ModelError, match=r"does not list encoder\.torchscript\.pt"):
        load_engine("torchscript", weights)
    files = json.loads((weights / "manifest.json").read_text())["files"]
    edit_manifest(weights, files={**files, "encoder.torchscript.pt": "0" * 64})
    with pytest.raises(ModelError, match="expected SHA-256 0000"):
        load_engine("torchscript", weights)


@pytest.mark.train
def test_torchscript_answers_as_onnx_does(tmp_path: Path) -> None:
    """One checkpoint, exported for both engines: probabilities within 0.05 of each other."""
    pytest.importorskip("torch")
    from model import checkpoint
    from model.export import export_torchscript

    encoder, _, manifest = checkpoint.load(WEIGHTS)
    for file in filter(Path.is_file, WEIGHTS.iterdir()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    export_torchscript(encoder, tmp_path)
    checkpoint.write_manifest(tmp_path, manifest)
    onnx_engine, torch_engine = (load_engine(kind, tmp_path, threads=1) for kind in ("onnx", "torchscript"))
    chunks = onnx_engine.encode(added("app/code.py", *Path(__file__).read_text().splitlines()))
    for ours, theirs in zip(onnx_engine.predict(chunks), torch_engine.predict(chunks), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05)
    assert torch_engine.info.engine == "torchscript"


def test_the_onnx_engine_never_imports_torch(weights: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model.engine import load_engine, review; "
        f"load_engine(weights=Path({str(weights)!r})); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
