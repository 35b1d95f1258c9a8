"""Shapes of the network and of a training run. Frozen; a recipe (model/recipes/*.toml) is one of each."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, get_args, get_origin, get_type_hints

RECIPES: Final = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    vocab_size: int = 8192
    width: int = 128
    layers: int = 3
    heads: int = 4
    hidden: int = 352  # of the gated feed-forward
    bigrams: int = 8192  # rows of the hashed table of neighbouring token pairs; 0: none
    trigrams: int = 0  # the same, of three tokens
    dropout: float = 0.0  # share of what a block adds that is left out in training
    max_tokens: int = 96  # longest row
    positions: Literal["rotary", "learned"] = "rotary"
    answers: Literal["concept", "severity_category"] = (
        "concept"  # one head over the concepts, or one of 4 and one of 12
    )


@dataclass(frozen=True, slots=True)
class TrainConfig:
    seed: int = 7
    minutes: float = 30.0  # of wall clock; the schedule is laid over it
    max_steps: int = 1_000_000
    batch_rows: int = 192
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.03  # share of the run
    schedule: Literal["stable", "cosine"] = "stable"  # level and then falling, or falling all along
    decay: float = 0.4  # share of the run, at the end, over which a stable rate falls to zero
    negatives: float = 0.33  # share of clean lines kept
    temper: float = (
        0.5  # a concept of n lines is drawn as if it had n**(1-temper) * most**temper, at most `max_repeat` times
    )
    max_repeat: float = 8.0
    injected: float = 0.25  # largest share of what is drawn that is faults put there
    optimizer: Literal["adamw", "muon"] = "adamw"  # of the blocks' matrices; the rest has AdamW
    average: float = 1.0  # of weights begun from others, the share of what was learned now; the rest is what they were
    unread: float = 0.0  # share of the tokens that training shows as unknown, so that no name is leant on
    compile: bool = False  # the network by torch's compiler, which needs a C++ one; without it, as it is
    threads: int = 1
    device: Literal["auto", "cpu", "cuda", "mps"] = "cpu"  # auto: an accelerator where torch finds one


@dataclass(frozen=True, slots=True)
class Recipe:
    name: str
    encoder: EncoderConfig
    train: TrainConfig


T = TypeVar("T")


def load_recipe(path: Path) -> Recipe:
    """One TOML file with [encoder] and [train]; a missing key has its default. Raises ValueError naming a wrong one."""
    raw = tomllib.loads(path.read_text("utf-8"))
    return Recipe(path.stem, build(EncoderConfig, raw.get("encoder", {})), build(TrainConfig, raw.get("train", {})))


def build(kind: type[T], values: dict[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := set(values) - known:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(known))}")
    hints = get_type_hints(kind)
    for name, value in values.items():
        if get_origin(hints[name]) is Literal and value not in get_args(hints[name]):
            raise ValueError(f"{kind.__name__}.{name} is {value!r}; it can be {', '.join(get_args(hints[name]))}")
    return kind(**values)
