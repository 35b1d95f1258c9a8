"""One training of triage: comments to a folder of int8 weights, with figures on comments held out.

What is shipped is taught by every comment; the figures are those of runs that were not (each repository in turn left
out, and the last fifth in time), and its own on comments of other repositories.
"""

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from model.checkpoint import sha256
from model.config import Recipe, TrainConfig
from model.dataset import DataError
from model.encoder import parameters
from model.engine import FORMAT, read_manifest, read_verified, softmax
from model.evaluate import fit_temperature
from model.labels import CATEGORIES, SEVERITIES
from model.mining.comments import Comment
from model.quantize import quantize_weights
from model.train import VERSION, schedule
from model.triage import engine, rule
from model.triage.evaluate import figures, judge, labels_of, linear, majority
from model.triage.network import TriageNetwork
from model.triage.words import batch_of, words_of

RECIPE: Final = Path(__file__).parent / "recipe.toml"
LEAST: Final = 20  # comments to learn from
_POOL: Final = 16  # batches sorted by length together
_LATER: Final = 0.2  # share of the comments, the newest, that the split by time holds out

Progress = Callable[[str], None]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labelled:
    """Comments as the network reads them, and what the rules say of each."""

    comments: list[Comment]
    words: list[list[str]]
    severity: Ints
    category: Ints

    def __len__(self) -> int:
        return len(self.comments)

    def only(self, picked: Ints) -> "Labelled":
        return Labelled(
            [self.comments[at] for at in picked],
            [self.words[at] for at in picked],
            self.severity[picked],
            self.category[picked],
        )


def labelled(comments: Sequence[Comment]) -> Labelled:
    words = [words_of(each.body, each.path, each.diff_hunk) for each in comments]
    return Labelled(list(comments), words, *labels_of(comments))


def train(
    recipe: Recipe,
    comments: Sequence[Comment],
    out: Path,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
    *,
    is_judged: bool = True,
    elsewhere: Sequence[Comment] = (),
) -> dict[str, Any]:
    """Writes weights and manifest into `out`, and returns the manifest. Raises DataError.

    elsewhere: comments that are never taught, on which the very file that is written is judged.
    """
    if len(comments) < LEAST:
        raise DataError(f"{len(comments)} comments are too few to learn from; give at least {LEAST}")
    torch.set_num_threads(recipe.train.threads)
    data = labelled(comments)
    heldout: dict[str, Any] = {}
    temperature = 1.0
    if is_judged:
        heldout, temperature = _judge(recipe, data, progress, clock)
    network, minutes = fit(recipe, data, progress, clock)
    out.mkdir(parents=True, exist_ok=True)
    export(network, out / engine.ONNX)
    files = {engine.ONNX: sha256(out / engine.ONNX)}
    document = {
        "format": FORMAT,
        "task": engine.TASK,
        "name": "sentinel-triage",
        "version": VERSION,
        "digest": hashlib.sha256(json.dumps([files, temperature], sort_keys=True).encode()).hexdigest(),
        "files": files,
        "severities": list(SEVERITIES),
        "categories": list(CATEGORIES),
        "concepts": [],
        "languages": [],
        "thresholds": {},
        "temperature": temperature,
        "config": asdict(network.config),
        "parameters": parameters(network),
        "labels": {"rule": rule.VERSION, "say": rule.BY_CONSTRUCTION},
        "data": _origin(data),
        "training": {
            "recipe": recipe.name,
            "minutes": round(minutes, 1),
            "seed": recipe.train.seed,
            "threads": recipe.train.threads,
            "machine": f"{platform.system()} {platform.machine()}, CPU, torch {torch.__version__}",
        },
        "heldout": heldout,
    }
    _write(out, document)
    if elsewhere:
        found = judge(engine.load_triage(out), elsewhere)
        found["linear"] = asdict(
            figures(
                labels_of(elsewhere), linear(data.comments, (data.severity, data.category), elsewhere, recipe.train)
            )
        )
        title = f"{len({each.repository for each in elsewhere})} other repositories"
        document["heldout"] = {**heldout, title: found}
        _write(out, document)
    gap = _gap(network, out, data)
    progress(f"int8 beside torch: largest difference of a probability {gap:.4f}")
    return document


def _write(out: Path, document: dict[str, Any]) -> None:
    (out / "manifest.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def fit(recipe: Recipe, data: Labelled, progress: Progress, clock: Callable[[], float]) -> tuple[TriageNetwork, float]:
    """A network taught by all of `data`, and the minutes it took.

    The same seed gives the same network, as long as steps end the run and not minutes.
    """
    config = recipe.train
    torch.manual_seed(config.seed)
    network = TriageNetwork(recipe.encoder).train()
    weights = (_weights(data.severity, len(SEVERITIES), config), _weights(data.category, len(CATEGORIES), config))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, betas=(0.9, 0.98), fused=True
    )
    began, loss_mean = clock(), 0.0
    for step, picked in enumerate(_batches(data, config)):
        elapsed = clock() - began
        done = max(elapsed / (60 * config.minutes), step / config.max_steps)
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * schedule(done, config)
        batch = batch_of([data.words[at] for at in picked], recipe.encoder.vocab_size)
        severity, category = network.heads(torch.from_numpy(batch.grams), torch.from_numpy(batch.words))
        loss = 0.5 * F.cross_entropy(severity, torch.from_numpy(data.severity[picked]), weights[0])
        loss = loss + 0.5 * F.cross_entropy(category, torch.from_numpy(data.category[picked]), weights[1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        loss_mean += (float(loss.detach()) - loss_mean) * (0.05 if step else 1)
        if step % 100 == 99:
            progress(f"step {step + 1} of {config.max_steps}, loss {loss_mean:.3f}, {elapsed / 60:.1f} min")
    return network.eval(), (clock() - began) / 60


def export(network: TriageNetwork, target: Path) -> None:
    """Writes int8 ONNX: `grams` (different words, n-grams) and `words` (rows, length), int64, to `logits`."""
    with TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own: deprecations, tracing
        full = Path(scratch) / "triage.onnx"
        example = batch_of([["\1c", "a", "word"], ["\1c", "other"]], network.config.vocab_size)
        torch.onnx.export(
            network.eval(),
            (torch.from_numpy(example.grams), torch.from_numpy(example.words)),
            str(full),
            input_names=["grams", "words"],
            output_names=["logits"],
            dynamic_axes={
                "grams": {0: "different", 1: "parts"},
                "words": {0: "rows", 1: "length"},
                "logits": {0: "rows"},
            },
            opset_version=17,
            dynamo=False,
        )
        quantize_weights(full, target)


def logits_of(network: TriageNetwork, data: Labelled) -> engine.Floats:
    def forward(batch: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(batch.grams), torch.from_numpy(batch.words)).numpy()

    return engine.logits_of(forward, data.words, network.config.vocab_size)


def _judge(
    recipe: Recipe, data: Labelled, progress: Progress, clock: Callable[[], float]
) -> tuple[dict[str, Any], float]:
    """Figures of each split beside their baselines, and the temperature that fits what was left out."""
    names, whole = np.array([each.repository for each in data.comments]), len(data)
    when = np.argsort(np.array([each.created_at for each in data.comments]), kind="stable")
    later = np.sort(when[int(whole * (1 - _LATER)) :])
    by_repository = [(f"without {name}", np.flatnonzero(names == name)) for name in sorted(set(names))]
    found: dict[str, Any] = {}
    pooled: dict[str, tuple[Ints, Ints]] = {}
    logits = np.zeros((whole, len(SEVERITIES) + len(CATEGORIES)), np.float32)
    for title, asked in [*(by_repository if len(by_repository) > 1 else []), ("later in time", later)]:
        known, rest = data.only(np.setdiff1d(np.arange(whole), asked)), data.only(asked)
        network, minutes = fit(recipe, known, lambda _: None, clock)
        scores = logits_of(network, rest)
        answers = {
            "model": _best(scores),
            "linear": linear(known.comments, (known.severity, known.category), rest.comments, recipe.train),
            "majority": majority((known.severity, known.category), len(rest)),
            "rule": labels_of(rest.comments),
        }
        truth = (rest.severity, rest.category)
        judged = {name: asdict(figures(truth, each)) for name, each in answers.items()}
        found[title] = {"comments": len(rest), "minutes": round(minutes, 1), **judged}
        progress(
            f"{title}: {len(rest):,} comments, accuracy {judged['model']['accuracy']:.3f}, "
            f"balanced {judged['model']['balanced_accuracy']:.3f}, {minutes:.1f} min"
        )
        if title != "later in time" or len(by_repository) == 1:
            logits[asked] = scores
            for name, each in answers.items():
                whole_of = pooled.setdefault(name, (np.zeros(whole, np.int64), np.zeros(whole, np.int64)))
                for labels, said in zip(whole_of, each, strict=True):
                    labels[asked] = said
    if len(by_repository) == 1:
        return found, fit_temperature(logits[later, : len(SEVERITIES)], data.severity[later].astype(np.int16))
    truth = (data.severity, data.category)
    judged = {name: asdict(figures(truth, each)) for name, each in pooled.items()}
    found = {"one repository left out": {"comments": whole, **judged}, **found}
    return found, fit_temperature(logits[:, : len(SEVERITIES)], data.severity.astype(np.int16))


def _best(scores: engine.Floats) -> tuple[Ints, Ints]:
    severity, category = engine.split(scores)
    return severity.argmax(-1), category.argmax(-1)


def _weights(labels: Ints, outputs: int, config: TrainConfig) -> torch.Tensor:
    """(all / n) ** temper of each class, 1 on average over the comments."""
    counts = np.bincount(labels, minlength=outputs).clip(1)
    weights = (counts.sum() / counts) ** config.temper
    return torch.from_numpy(weights * counts.sum() / (weights * counts).sum()).float()


def _batches(data: Labelled, config: TrainConfig) -> Iterator[Ints]:
    """Epoch after epoch, comments of like length together."""
    chance = np.random.default_rng(config.seed)
    lengths = np.array([len(words) for words in data.words])
    while True:
        order = chance.permutation(len(data))
        for at in range(0, len(order), config.batch_rows * _POOL):
            pool = order[at : at + config.batch_rows * _POOL]
            pool = pool[np.argsort(lengths[pool], kind="stable")]
            cuts = [pool[start : start + config.batch_rows] for start in range(0, len(pool), config.batch_rows)]
            for index in chance.permutation(len(cuts)):
                yield cuts[index]


def _gap(network: TriageNetwork, out: Path, data: Labelled) -> float:
    """Of a probability, between the file written and torch, on some of the comments."""
    some = data.only(np.arange(min(256, len(data))))
    served = engine.load_forward(read_verified(out, engine.ONNX, read_manifest(out)))
    pairs = zip(
        engine.split(engine.logits_of(served, some.words, network.config.vocab_size)),
        engine.split(logits_of(network, some)),
        strict=True,
    )
    return max(float(np.abs(np.subtract(softmax(one), softmax(other))).max()) for one, other in pairs)


def _origin(data: Labelled) -> dict[str, Any]:
    """Counts and one hash; nothing of a text."""
    digest = hashlib.sha256()
    for each in data.comments:
        digest.update(f"{each.repository}\0{each.id}\0{each.body}\0".encode("utf-8", "replace"))
    names, counts = np.unique([each.repository for each in data.comments], return_counts=True)
    return {
        "comments": len(data),
        "repositories": {str(name): int(count) for name, count in zip(names, counts, strict=True)},
        "severities": dict(
            zip(SEVERITIES, np.bincount(data.severity, minlength=len(SEVERITIES)).tolist(), strict=True)
        ),
        "categories": dict(
            zip(CATEGORIES, np.bincount(data.category, minlength=len(CATEGORIES)).tolist(), strict=True)
        ),
        "digest": digest.hexdigest(),
    }
