"""Weights that learn from one repository's own history, and are kept only where they are better on its newest part.

The head and the last block are trained from the weights there are; nothing else is mixed in, so the guards against
forgetting are a low rate, an early end by the part held back, outputs of concepts not met left as they were, and at the
end the mix of old and new weights that is best on that part (Wortsman et al., 2022, arXiv:2109.01903).
"""

import json
import math
import shutil
import subprocess
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from model import checkpoint, dataset, history
from model.config import TrainConfig
from model.dataset import NONE, DataError, Record, Rows
from model.encoder import Encoder
from model.engine import read_manifest
from model.evaluate import Floats, average_precision, served, shown_answers
from model.history import Dated, day
from model.inputs.files import language
from model.labels import SEVERITIES, Concept, load_concepts
from model.mining.dismissed import Dismissed
from model.mining.git import MineOptions, Source, mine
from model.teachers import Teacher
from model.train import Progress, fit, write

REPORT: Final = "adapted.json"
_CONFIG: Final = TrainConfig(
    batch_rows=64, learning_rate=3e-4, weight_decay=0.0, warmup=0.1, schedule="cosine", negatives=1.0, temper=0.3,
    max_repeat=4.0,
)  # fmt: skip
_PASSES: Final = 10  # over the taught part, at most
_CHECKS: Final = 3  # of the part held back, in each pass
_PATIENCE: Final = 5  # checks without a better one, and it is enough
_CHECKED: Final = 4000  # lines of a check, at most
_MIXES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_REPEATS: Final = 8  # of a dismissed line in the taught part: one among thousands would not be heard
_MOST_PRECISION: Final = 0.9  # asked of what is shown: few concepts can be told to be right more often
_DRAWS: Final = 400
FIGURES: Final = ("line_ap", "any_ap", "precision", "recall")


@dataclass(frozen=True, slots=True)
class Request:
    repository: Path
    name: str  # owner/name
    start: Path  # folder of the weights to learn on from
    out: Path
    dismissed: tuple[Dismissed, ...] = ()
    minutes: float = 10.0  # of training, at most
    threads: int = 1  # two that wait for each other are slower where a machine is busy
    commits: int = 3000  # drawn from the history
    max_files: int = 1500  # file versions a language gives its analyzers, and half as many of fixes


def adapt(
    request: Request,
    teachers: Sequence[Teacher],
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """Returns the report, and writes it as adapted.json; weights beside it only where `is_kept`.

    Raises DataError where the history cannot teach, CheckpointError where the weights cannot be learned on from.
    """
    if (request.out / checkpoint.MANIFEST).exists():
        raise DataError(f"{request.out} holds weights already; give another folder")
    torch.set_num_threads(request.threads)
    encoder, tokenizer, manifest = checkpoint.load(request.start)
    if not isinstance(encoder, Encoder):
        raise DataError(f"{request.start} has no head over concepts, which is what is adapted; give other weights")
    by_id = {concept.id: concept for concept in load_concepts()}
    concepts = [by_id[name] for name in manifest["concepts"]]
    with tempfile.TemporaryDirectory(prefix="sentinel-adapt-") as scratch:
        added, fixes, source = _mined(request, teachers, manifest["languages"], Path(scratch), progress)
        asked = [
            one
            for one in request.dismissed
            if one.concept in manifest["concepts"] and language(one.path) in manifest["languages"]
        ]
        parts = history.part(history.dismiss(added, asked), concepts)
        old, new = history.dismissals(asked, parts)
        fixes = [one for one in history.dismiss(fixes, asked) if one.time < parts.held_from]
        progress(
            f"{_said(parts.taught)} before {day(parts.held_from)} teach, with {len(fixes):,} hunks that fixes took "
            f"away and {len(old)} dismissed findings; {_said(parts.held_back)} until {day(parts.judged_from)} are held "
            f"back; {_said(parts.judged)} since then judge"
        )
        length = encoder.config.max_tokens
        records = [one.record for one in (*parts.taught, *fixes)]
        frequency = dataset.counts(records)

        def rows_of(records: Sequence[Record]) -> Rows:
            return dataset.build(records, tokenizer, concepts, frequency, length)

        def shown_still(folder: Path) -> int:
            """Of the dismissed findings that taught, how many these weights would show."""
            rows = rows_of([record for _, record in old])
            asked_of = [manifest["concepts"].index(one.concept) + 1 for one, _ in old]
            return int((Answered.of(folder, rows, concepts).shown == asked_of).sum()) if old else 0

        taught = rows_of([*records, *[record for _, record in old] * _REPEATS])
        held_back = rows_of([one.record for one in parts.held_back])
        calibrated(encoder, manifest["temperature"])
        config = replace(_CONFIG, minutes=request.minutes)
        training = tune(encoder, taught, held_back, config, Path(scratch) / "run", progress, clock)
        candidate = Path(scratch) / "weights"
        there = _precision(Answered.of(request.start, held_back, concepts), held_back)
        wanted = min(there, _MOST_PRECISION)  # no noisier than the old ones are here
        write(encoder, tokenizer, {**manifest, "heldout": {}}, concepts, held_back, candidate, progress, wanted)
        judged = rows_of([one.record for one in history.untold(parts.judged, old)])
        before, after = (Answered.of(folder, judged, concepts) for folder in (request.start, candidate))
        figures = compare(before, after, judged, concepts, config.seed)
        report = {
            "repository": request.name,
            "head": source.head,
            "from": {name: manifest[name] for name in ("name", "version", "digest")},
            "dates": {
                "taught_until": day(parts.held_from),
                "judged_from": day(parts.judged_from),
                "judged_until": day(max(one.time for one in parts.judged)),
            },
            "taught": _counts(parts.taught, concepts),
            "held_back": _counts(parts.held_back, concepts),
            "judged": _counts(parts.judged, concepts),
            "fixes": _counts(fixes, concepts),
            "dismissed": {
                "given": len(request.dismissed),
                "not_of_these_weights": len(request.dismissed) - len(asked),
                "too_new": len(new),
                "taught": len(old),
                "shown_before": shown_still(request.start),
                "shown_after": shown_still(candidate),
            },
            "training": training,
            "figures": figures,
            **verdict(figures),
        }
        request.out.mkdir(parents=True, exist_ok=True)
        if report["is_kept"]:
            for path in candidate.iterdir():
                shutil.copyfile(path, request.out / path.name)
            checkpoint.write_manifest(request.out, checkpoint.read_manifest(candidate) | {"adapted": report})
    (request.out / REPORT).write_text(json.dumps({"version": 1, **report}, indent=1) + "\n", "utf-8")
    return report


def _mined(
    request: Request, teachers: Sequence[Teacher], taught: Sequence[str], scratch: Path, progress: Progress
) -> tuple[list[Dated], list[Dated], Source]:
    """(what commits added, what fixes took away, the repository), in the languages that the weights answer in."""
    own = [teacher for teacher in teachers if not set(taught).isdisjoint(teacher.languages)]
    file = dataset.file_name(request.name, "sample")
    progress(f"reading {request.name} with {', '.join(teacher.name for teacher in own) or 'no analyzer'} …")
    options = MineOptions(commits=request.commits, max_files=request.max_files)
    source = mine(request.repository, request.name, scratch / "added", own, options)
    undone = replace(options, is_undone=True, max_files=-(-request.max_files // 2))
    mine(request.repository, request.name, scratch / "fixes", own, undone)
    added, fixes = ([*history.read(scratch / kind / file)] for kind in ("added", "fixes"))
    if not any(one.record.language in taught for one in added):
        raise DataError(
            f"nothing in the history of {request.name} can be learned from: its files are in "
            f"{_files(request.repository)}, the analyzers here read {_spoken(teachers)}, the weights answer in "
            f"{', '.join(taught)}; install an analyzer for its language, or give --weights that answer in it"
        )
    known, gone = ([one for one in each if one.record.language in taught] for each in (added, fixes))
    return known, [*history.only_findings(gone)], source


def _spoken(teachers: Sequence[Teacher]) -> str:
    return ", ".join(sorted({spoken for teacher in teachers for spoken in teacher.languages})) or "nothing"


def _files(repository: Path) -> str:
    """`go (120), shell (3)`, the commonest languages of the newest commit."""
    done = subprocess.run(
        ["git", "-C", str(repository), "ls-tree", "-r", "-z", "--name-only", "HEAD"], capture_output=True, check=False
    )
    number = Counter(language(name) for name in done.stdout.decode("utf-8", "replace").split("\0") if name)
    return ", ".join(f"{spoken} ({files})" for spoken, files in number.most_common(4)) or "none"


def _said(dated: Sequence[Dated]) -> str:
    lines = sum(line.kind == "add" for one in dated for line in one.record.hunk.lines)
    return f"{lines:,} lines of {len({one.record.repository for one in dated}):,} commits"


def _counts(dated: Sequence[Dated], concepts: Sequence[Concept]) -> dict[str, int]:
    return {
        "commits": len({one.record.repository for one in dated}),
        "lines": sum(
            line.kind == "add" and at not in one.record.unsure
            for one in dated
            for at, line in enumerate(one.record.hunk.lines)
        ),
        "findings": history.findings(dated, {concept.id for concept in concepts}),
    }


# Training.


def calibrated(encoder: Encoder, temperature: float) -> None:
    """Puts the temperature into the head, so that training begins where serving is and not by learning it."""
    with torch.no_grad():
        encoder.head.weight /= temperature
        encoder.head.bias /= temperature


def tune(
    encoder: Encoder,
    taught: Rows,
    held_back: Rows,
    config: TrainConfig,
    run: Path,
    progress: Progress,
    clock: Callable[[], float],
) -> dict[str, Any]:
    """Trains the head and the last block in place, as far as it helps on `held_back`; returns what was done."""
    _free(encoder, np.bincount(taught.labels, minlength=encoder.outputs) > 0)
    rates, _ = dataset.sampling_rates(taught, encoder.outputs, config)
    steps = math.ceil(rates.sum() / config.batch_rows)  # of a pass
    watch = _Watch(encoder, held_back, max(1, steps // _CHECKS), config.seed)
    start, before = watch.best, watch.least
    minutes = fit(encoder, taught, replace(config, max_steps=_PASSES * steps), run, progress, clock, watch)
    watch.look()  # the state in which it ended
    losses = {}
    for share in _MIXES:
        encoder.load_state_dict(_mixed(start, watch.best, share))
        losses[share] = watch.loss()
    share = min(losses, key=losses.__getitem__)
    encoder.load_state_dict(_mixed(start, watch.best, share))
    checkpoint.half(encoder.requires_grad_(True))
    progress(
        f"loss on the lines held back {before:.4f} before and {losses[share]:.4f} after {watch.steps / steps:.1f} "
        f"passes, with {share:.0%} of what they changed"
    )
    return {
        "minutes": round(minutes, 1),
        "passes": round(watch.steps / steps, 1),
        "seed": config.seed,
        "share": share,
        "loss_before": round(before, 4),
        "loss_after": round(losses[share], 4),
    }


def _free(encoder: Encoder, is_met: npt.NDArray[np.bool_]) -> None:
    """Leaves the head, its norm and the last block to be trained. Adam moves an output by how steadily it is pushed,
    not how far, so those of concepts not met would all be pushed out; they get no push."""
    encoder.requires_grad_(False)
    for part in (encoder.blocks[-1], encoder.norm, encoder.head):
        part.requires_grad_(True)
    is_met[NONE] = True
    pushed = torch.from_numpy(is_met).float()
    encoder.head.weight.register_hook(lambda gradient: gradient * pushed[:, None])
    encoder.head.bias.register_hook(lambda gradient: gradient * pushed)


class _Watch:
    """Asked after each step: keeps the state with the least loss on some lines, and says when it falls no more."""

    def __init__(self, encoder: Encoder, rows: Rows, every: int, seed: int) -> None:
        picked = np.random.default_rng(seed).permutation(len(rows))[:_CHECKED]
        self._encoder, self._rows, self._every = encoder, rows, every
        self._picked = picked[np.argsort(rows.lengths[picked], kind="stable")]
        self.steps = self._worse = 0
        self.least = math.inf
        self.look()

    def __call__(self, step: int) -> bool:
        self.steps = step
        if step % self._every == 0:
            self.look()
        return self._worse >= _PATIENCE

    def look(self) -> None:
        loss = self.loss()
        self._worse += 1
        if loss < self.least:
            self.least, self._worse = loss, 0
            self.best = {name: value.clone() for name, value in self._encoder.state_dict().items()}

    def loss(self) -> float:
        is_training, total = self._encoder.training, 0.0
        self._encoder.eval()
        with torch.inference_mode():
            for at in range(0, len(self._picked), 256):
                some = self._picked[at : at + 256]
                truth = torch.from_numpy(self._rows.labels[some].astype(np.int64))
                logits = self._encoder(torch.from_numpy(self._rows.padded(some)))
                total += float(F.cross_entropy(logits, truth, reduction="sum"))
        self._encoder.train(is_training)
        return total / len(self._picked)


def _mixed(start: dict[str, Any], end: dict[str, Any], share: float) -> dict[str, Any]:
    return {name: value + share * (end[name] - value) for name, value in start.items()}


# Judging.


@dataclass(frozen=True, slots=True)
class Answered:
    """What a folder of weights, as it is served, answers of each line."""

    graver: Floats  # score that there is a finding graver than a nit
    finding: Floats  # score that there is one
    shown: npt.NDArray[np.intp]  # column of the concept that is shown, NONE where none is

    @classmethod
    def of(cls, folder: Path, rows: Rows, concepts: Sequence[Concept]) -> "Answered":
        chances, manifest = served(folder, rows), read_manifest(folder)
        least = np.array([manifest.thresholds[concept.id] for concept in concepts])
        return cls(chances[:, _graver(concepts)].sum(1), 1 - chances[:, NONE], shown_answers(chances, least))


def _precision(side: Answered, rows: Rows) -> float:
    """Of what is shown, the share that is right; 0 where nothing is."""
    flagged = side.shown != NONE
    return float((side.shown == rows.labels)[flagged].mean()) if flagged.any() else 0.0


def _graver(concepts: Sequence[Concept]) -> list[int]:
    return [at for at, concept in enumerate(concepts, start=1) if concept.severity != SEVERITIES[0]]


def compare(before: Answered, after: Answered, rows: Rows, concepts: Sequence[Concept], seed: int) -> dict[str, Any]:
    """Each of FIGURES of both sides and their difference: its value, and the middle 95 % when the commits are drawn
    anew, the same ones for both sides. None for what cannot be told."""
    grave, there = np.isin(rows.labels, _graver(concepts)), rows.labels != NONE

    def figures(side: Answered, picked: npt.NDArray[Any]) -> list[float]:
        right = side.shown[picked] == rows.labels[picked]
        flagged = side.shown[picked] != NONE
        return [
            average_precision(side.graver[picked], grave[picked]),
            average_precision(side.finding[picked], there[picked]),
            float(right[flagged].mean()) if flagged.any() else math.nan,
            float(right[there[picked]].mean()) if there[picked].any() else math.nan,
        ]

    def both(picked: npt.NDArray[Any]) -> npt.NDArray[Any]:
        one, other = np.array([figures(before, picked), figures(after, picked)])
        return np.stack([one, other, other - one])

    of = [np.flatnonzero(rows.repositories == at) for at in range(len(rows.names))]
    chance = np.random.default_rng(seed)
    drawn = np.stack(
        [both(np.concatenate([of[at] for at in chance.integers(len(of), size=len(of))])) for _ in range(_DRAWS)]
    )
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a figure that no draw could tell
        low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    found = np.stack([both(np.arange(len(rows))), low, high], axis=-1)
    return {
        side: {
            name: [None if math.isnan(value) else round(float(value), 4) for value in found[at, column]]
            for column, name in enumerate(FIGURES)
        }
        for at, side in enumerate(("before", "after", "difference"))
    } | {"shown": [int((side.shown != NONE).sum()) for side in (before, after)]}


def verdict(figures: dict[str, Any]) -> dict[str, Any]:
    """`is_kept` and `reason`: better is a line AP whose difference lies above 0, with nothing shown that is surely
    worse."""
    gain = figures["difference"]["line_ap"]
    if None in gain or gain[1] <= 0:
        return {"is_kept": False, "reason": "the line AP is not surely higher"}
    for name in ("precision", "recall"):
        high = figures["difference"][name][2]
        if high is not None and high < 0:
            return {"is_kept": False, "reason": f"the {name} of what is shown is surely lower"}
    return {"is_kept": True, "reason": "the line AP is surely higher, and what is shown is not surely worse"}
