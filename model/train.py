"""One training run: records to a folder of weights. Stops and goes on again where it stopped."""

import math
import os
import pickle
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from model import checkpoint, dataset
from model.config import EncoderConfig, Recipe, TrainConfig
from model.dataset import DataError, Rows
from model.encoder import Network, TwoHeads, parameters
from model.encoder import build as build_network
from model.engine import PRECISION, PRECISIONS, load_forward, read_manifest, softmax
from model.evaluate import finding_temperature, is_asked, probabilities, thresholds, withheld
from model.export import export_onnx, parity
from model.inputs.tokenizer import FIRST_PIECE, UNKNOWN, Tokenizer
from model.labels import Concept, learned, load_concepts
from model.muon import Muon
from model.report import loss_picture

VERSION: Final = "0.1.0"
MIN_LINES: Final = 12  # of a concept in training, for it to have an output
_SAVE_EVERY_S: Final = 120.0
_LOSS_EVERY: Final = 10  # steps between two points of the picture
_LOSSES: Final = "losses.tsv"  # of the run's folder: step, loss
_MUON_RATE: Final = 6.0  # of Muon's rate to AdamW's
_ALIGNED: Final = 8  # tokens; on CUDA a mask of attention of another length is copied first
_POOL: Final = 24  # batches sorted by length together, so that little is padded

Progress = Callable[[str], None]


def train(
    recipe: Recipe,
    data: Path,
    out: Path,
    run: Path,
    progress: Progress,
    clock: Callable[[], float] = time.monotonic,
    start: Path | None = None,
) -> None:
    """Writes weights and manifest into `out`; `run` keeps tokenizer and last state, so that a second call goes on.

    `start`: a folder of weights to begin from, with its tokenizer and its concepts, named in the manifest as
    `training.begun_from`; the recipe must have its shape. Validation repositories set temperature and thresholds; of
    test repositories only what the others have copied is looked for, to leave it out.

    Raises DataError, CheckpointError.
    """
    config = recipe.train
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    run.mkdir(parents=True, exist_ok=True)
    earlier = checkpoint.load(start) if start is not None else None
    if earlier is not None and not (run / checkpoint.TOKENIZER).exists():
        (run / checkpoint.TOKENIZER).write_bytes(earlier[1].model)
    tokenizer = _tokenizer(data, run, recipe.encoder.vocab_size)
    encoder_config = build_config(recipe.encoder, tokenizer)
    records = list(dataset.read_learned(data))
    frequency = dataset.counts(records)
    before = set(earlier[2]["concepts"]) if earlier is not None else set[str]()
    concepts = [
        concept for concept in learned(load_concepts()) if frequency[concept.id] >= MIN_LINES or concept.id in before
    ]
    rows = dataset.build(records, tokenizer, concepts, frequency, encoder_config.max_tokens, beside_injected=False)
    del records
    if not concepts:
        raise DataError(f"no concept has {MIN_LINES} lines in the training repositories of {data}; mine more of them")
    progress(
        f"{len(rows):,} lines of {len(rows.names)} repositories, {int((rows.labels > 0).sum()):,} with a finding, "
        f"{len(concepts)} concepts"
    )
    encoder = build_network(encoder_config, 1 + len(concepts))
    if isinstance(encoder, TwoHeads):
        encoder.learn_counts(concepts, np.bincount(rows.labels, minlength=encoder.outputs).tolist())
    progress(f"recipe {recipe.name}: {parameters(encoder):,} parameters")
    if earlier is not None:
        known = _begin_from(encoder, earlier[0], concepts, earlier[2]["concepts"], start)
        progress(f"begins from {start}: {known} of {len(concepts)} concepts are known there")
    minutes = fit(encoder, rows, config, run, progress, clock)
    (run / "loss.svg").write_text(loss_picture(_losses(run)) + "\n", "utf-8")
    if earlier is not None:
        average(encoder, earlier[0], concepts, earlier[2]["concepts"], config.average)
    checkpoint.half(encoder)
    validation = dataset.build(
        dataset.read(data, "validation"), tokenizer, concepts, frequency, encoder_config.max_tokens
    )
    origin = _origin(recipe, data, rows, minutes)
    if earlier is not None:
        origin["training"] |= {"begun_from": _lineage(earlier[2]), "average": config.average}
        origin["name"] = earlier[2]["name"]
    finish(encoder, tokenizer, concepts, validation, out, origin, progress)


def build_config(config: EncoderConfig, tokenizer: Tokenizer) -> EncoderConfig:
    """The recipe's shape with the vocabulary that was found: small data gives fewer pieces than asked for."""
    return EncoderConfig(**{**asdict(config), "vocab_size": len(tokenizer)})


def fit(
    encoder: Network,
    rows: Rows,
    config: TrainConfig,
    run: Path,
    progress: Progress,
    clock: Callable[[], float],
    is_enough: Callable[[int], bool] = lambda _step: False,
) -> float:
    """Trains in place over the configured minutes or steps, whichever end first; returns the minutes spent in all.

    `is_enough` is asked after each step, and can end it earlier.
    """
    device = device_of(config)
    encoder.to(device)
    rates, bend = dataset.sampling_rates(rows, encoder.outputs, config)
    # Drawing rows unevenly shifts what the network believes; this offset in training leaves its answers unshifted.
    offset = torch.from_numpy(np.log(bend)).float().to(device)
    optimizers = _optimizers(encoder, config)
    state, part = run / "state.pt", run / "state.part"
    step, spent = 0, 0.0
    if state.exists():
        kept = _resume(state, encoder, optimizers, device)
        step, spent = kept["step"], kept["spent_s"]
        progress(f"going on from step {step}, {spent / 60:.1f} minutes in")
    run.mkdir(parents=True, exist_ok=True)
    _keep_losses(run, step)
    chance = np.random.default_rng([config.seed, step])
    began = saved = clock()
    tokens = 0.0
    loss_mean: torch.Tensor | None = None
    multiple = _ALIGNED if device.type == "cuda" and encoder.config.max_tokens % _ALIGNED == 0 else 1
    encoder.train()
    loss_of = _compiled(encoder, progress) if config.compile else encoder.loss
    unread = torch.Generator().manual_seed(config.seed + step)
    for picked in batches(rows, rates, config.batch_rows, chance):
        elapsed = spent + clock() - began
        done = max(elapsed / (config.minutes * 60), step / config.max_steps)
        if done >= 1:
            break
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["top_lr"] * schedule(done, config)
        inputs = _some_unread(torch.from_numpy(rows.padded(picked, multiple)), config.unread, unread)
        inputs = _moved(inputs, device)
        labels = _moved(torch.from_numpy(rows.labels[picked].astype(np.int64)), device)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = loss_of(inputs, labels, offset)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        if is_enough(step):
            break
        tokens += inputs.numel()
        loss_mean = loss.detach() if loss_mean is None else loss_mean.lerp(loss.detach(), 0.05)
        if step % _LOSS_EVERY == 0:  # seldom: an accelerator runs ahead until it is asked
            with (run / _LOSSES).open("a", encoding="utf-8") as file:
                file.write(f"{step}\t{float(loss_mean):.5f}\n")
        if step % 100 == 0:
            rate = tokens / max(1e-9, clock() - began)
            progress(f"step {step} loss {float(loss_mean):.3f} {elapsed / 60:.1f} min {rate:,.0f} tokens/s")
        if clock() - saved > _SAVE_EVERY_S:
            saved = clock()
            torch.save(
                {
                    "encoder": encoder.state_dict(),
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "step": step,
                    "spent_s": spent + saved - began,
                },
                part,
            )
            part.replace(state)
    encoder.to("cpu").eval()
    return (spent + clock() - began) / 60


def _begin_from(
    encoder: Network, earlier: Network, concepts: Sequence[Concept], known: Sequence[str], start: Path | None
) -> int:
    """Copies what an earlier network learned; rows of the head by concept. Returns how many concepts it knew."""
    if earlier.config != encoder.config:
        old, new = asdict(earlier.config), asdict(encoder.config)
        other = ", ".join(f"{name} {old[name]} there, {new[name]} here" for name in old if old[name] != new[name])
        raise DataError(f"{start} has another shape than the recipe: {other}; use a recipe of its shape")
    shared = {concept.id: at for at, concept in enumerate(concepts, start=1) if concept.id in known}
    if isinstance(encoder, TwoHeads):  # its heads do not depend on the catalog
        encoder.encoder.load_state_dict(earlier.encoder.state_dict())
        return len(shared)
    old_state, state = earlier.state_dict(), encoder.state_dict()
    rows = [(0, 0), *((known.index(name) + 1, at) for name, at in shared.items())]
    for name, value in old_state.items():
        if name.startswith("head."):
            for before, now in rows:
                state[name][now] = value[before]
        else:
            state[name] = value
    encoder.load_state_dict(state)
    return len(shared)


def average(
    encoder: Network, earlier: Network, concepts: Sequence[Concept], known: Sequence[str], share: float
) -> None:
    """`share` of what was learned now and the rest of before; a concept that was not known then stays as it is.

    Of two networks on one path the mean does better on what either has seen little of (Wortsman et al., 2022).
    """
    before = deepcopy(encoder)
    _begin_from(before, earlier, concepts, known, None)
    old = before.state_dict()
    encoder.load_state_dict({name: old[name].lerp(value, share) for name, value in encoder.state_dict().items()})


def _lineage(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What taught the weights that a run began from, and those before them."""
    training, data = manifest["training"], manifest["data"]
    kept = {name: training[name] for name in ("recipe", "minutes", "begun_from") if name in training}
    return {"digest": manifest["digest"], "data": {name: data[name] for name in ("lines", "digest")}} | kept


def _losses(run: Path) -> list[tuple[int, float]]:
    """The points of the run's picture, in order."""
    path = run / _LOSSES
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    return [(int(step), float(loss)) for step, _, loss in (line.partition("\t") for line in lines)]


def _keep_losses(run: Path, step: int) -> None:
    """Drops the points past the state that a run goes on from: their steps are taken again."""
    kept = [f"{at}\t{loss:.5f}\n" for at, loss in _losses(run) if at <= step]
    (run / _LOSSES).write_text("".join(kept), "utf-8")


def _compiled(encoder: Network, progress: Progress) -> Callable[..., torch.Tensor]:
    """The loss by torch's compiler; as it is, and said so, where there is no C++ compiler for it."""
    compiler = os.environ.get("CXX", "g++" if sys.platform != "darwin" else "clang++")
    if shutil.which(compiler) is None:
        progress(f"{compiler} is not on PATH, so the network is not compiled; training takes about 1.4 times as long")
        return encoder.loss
    compiled: Callable[..., torch.Tensor] = torch.compile(encoder.loss, dynamic=True)
    return compiled


def _moved(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """To the device; to CUDA without waiting for what it still has to do."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _some_unread(tokens: torch.Tensor, share: float, chance: torch.Generator) -> torch.Tensor:
    """tokens (rows, length) with this share of them unknown; markers always stay."""
    if not share:
        return tokens
    hidden = (torch.rand(tokens.shape, generator=chance) < share) & (tokens >= FIRST_PIECE)
    return tokens.masked_fill(hidden, UNKNOWN)


def _optimizers(encoder: Network, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW (Loshchilov and Hutter, 2019), or Muon (Jordan, 2024) for the blocks' matrices and AdamW for the rest."""
    matrices = [value for name, value in encoder.named_parameters() if value.ndim == 2 and "blocks" in name]
    others = [value for name, value in encoder.named_parameters() if not (value.ndim == 2 and "blocks" in name)]
    decayed = {"params": matrices, "weight_decay": config.weight_decay, "top_lr": config.learning_rate}
    plain = {"params": others, "weight_decay": 0.0, "top_lr": config.learning_rate}
    groups = [plain] if config.optimizer == "muon" else [decayed, plain]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.98), fused=True)
    ]
    if config.optimizer == "muon":
        rate = _MUON_RATE * config.learning_rate
        found.append(Muon([decayed | {"top_lr": rate}], lr=rate))
    return found


def _resume(
    state: Path, encoder: Network, optimizers: Sequence[torch.optim.Optimizer], device: torch.device
) -> dict[str, Any]:
    """Loads tensors and numbers alone, never code. Raises DataError where they are of another run, or damaged."""
    try:
        kept: dict[str, Any] = torch.load(state, map_location=device, weights_only=True)
        encoder.load_state_dict(kept["encoder"])
        for optimizer, before in zip(optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(before)
        return {"step": int(kept["step"]), "spent_s": float(kept["spent_s"])}
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError, ValueError) as exc:
        first = str(exc).strip().partition("\n")[0] or repr(exc)
        raise DataError(
            f"{state} cannot be gone on from: {first}; it is damaged or of another recipe or data: give --run another "
            "folder, or delete it to begin anew"
        ) from exc


def device_of(config: TrainConfig) -> torch.device:
    """The device a run is on. Raises DataError where the recipe names one that torch does not find."""
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if config.device == "auto":
        return torch.device(next(name for name, is_there in there.items() if is_there))
    if not there[config.device]:
        raise DataError(f"torch {torch.__version__} finds no {config.device} here; set train.device to auto or cpu")
    return torch.device(config.device)


def batches(
    rows: Rows, rates: npt.NDArray[np.float64], size: int, chance: np.random.Generator
) -> Iterator[npt.NDArray[np.intp]]:
    """Row numbers, epoch after epoch, rows of like length together."""
    while True:
        order = dataset.epoch(rates, chance)
        for at in range(0, len(order), size * _POOL):
            pool = order[at : at + size * _POOL]
            pool = pool[np.argsort(rows.lengths[pool], kind="stable")]
            cuts = [pool[start : start + size] for start in range(0, len(pool), size)]
            for index in chance.permutation(len(cuts)):
                yield cuts[index]


def schedule(done: float, config: TrainConfig) -> float:
    """The factor on the rate when `done` (0 to 1) of the run is over: warm-up, then level and falling, or a cosine."""
    if done < config.warmup:
        return done / config.warmup
    if config.schedule == "cosine":
        return 0.5 + 0.5 * math.cos(math.pi * (done - config.warmup) / (1 - config.warmup))
    return min(1.0, (1 - done) / config.decay)


def finish(
    encoder: Network,
    tokenizer: Tokenizer,
    concepts: list[Concept],
    validation: Rows,
    out: Path,
    origin: dict[str, Any],
    progress: Progress,
) -> None:
    """Calibrates on validation and writes the folder of weights."""
    manifest = {
        "name": f"sentinel-{origin['training']['recipe']}",
        "version": VERSION,
        "concepts": [concept.id for concept in concepts],
        "languages": sorted(
            spoken for spoken in origin["data"]["lines_of_language"] if any(each.speaks(spoken) for each in concepts)
        ),
        "temperature": 1.0,
        "thresholds": {},
        "thresholds_at": {},
        "config": asdict(encoder.config),
        "parameters": parameters(encoder),
        **origin,
        "heldout": {},
    }
    write(encoder, tokenizer, manifest, concepts, validation, out, progress)


def write(
    encoder: Network,
    tokenizer: Tokenizer,
    manifest: dict[str, Any],
    concepts: Sequence[Concept],
    validation: Rows,
    out: Path,
    progress: Progress,
    least_precision: float = 0.0,
) -> None:
    """Writes the folder of weights, calibrated on validation.

    A concept that cannot be told there keeps the thresholds that `manifest` has for it. What is shown is to be right
    as often as asked, and at least `least_precision`.
    """
    checkpoint.save(out, encoder, tokenizer)
    export_onnx(encoder, out)
    logits = probabilities(encoder, validation, raw=True)
    mask = is_asked(validation, concepts)
    temperature = finding_temperature(logits, validation.labels, mask)
    chances = withheld(softmax(logits / temperature), mask)
    earlier = {f"{PRECISION:g}": manifest["thresholds"]} | manifest.get("thresholds_at", {})

    def least(asked: float, kept: Mapping[str, float]) -> dict[str, float]:
        return thresholds(chances, validation.labels, concepts, max(asked, least_precision), kept)

    calibrated = {
        "temperature": temperature,
        "thresholds": least(PRECISION, manifest["thresholds"]),
        "thresholds_at": {f"{asked:g}": least(asked, earlier.get(f"{asked:g}", {})) for asked in PRECISIONS},
    }
    checkpoint.write_manifest(out, manifest | calibrated)
    if len(validation):
        served = load_forward("onnx", out, read_manifest(out))
        same = parity(encoder, served, validation.padded(np.arange(min(512, len(validation)))))
        progress(
            f"int8 beside torch on {same.rows} lines: same label {same.same_label:.3f}, "
            f"largest gap {same.largest_gap:.3f}"
        )


def _tokenizer(data: Path, run: Path, vocab_size: int) -> Tokenizer:
    path = run / checkpoint.TOKENIZER
    if not path.exists():
        path.write_bytes(dataset.learn_tokenizer(dataset.read(data, "train", ("sample", "whole")), vocab_size).model)
    return Tokenizer.load(path)


def _origin(recipe: Recipe, data: Path, rows: Rows, minutes: float) -> dict[str, Any]:
    device = device_of(recipe.train).type.upper()
    language = np.bincount(rows.languages, minlength=len(rows.spoken))
    return {
        "data": {
            "repositories": len(rows.names),
            "lines": len(rows),
            "lines_with_a_finding": int((rows.labels > 0).sum()),
            "lines_of_language": {name: int(language[at]) for at, name in enumerate(rows.spoken)},
            "digest": dataset.digest(data),
        },
        "training": {
            "recipe": recipe.name,
            "minutes": round(minutes, 1),
            "seed": recipe.train.seed,
            "threads": recipe.train.threads,
            "machine": f"{platform.system()} {platform.machine()}, {device}, torch {torch.__version__}",
        },
    }
