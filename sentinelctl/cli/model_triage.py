"""sentinelctl model train-triage: the weights behind `sentinelctl triage`, and how they fare on comments held out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


def register(app: typer.Typer) -> None:
    app.command("train-triage")(train_triage)
    app.command("eval-triage")(eval_triage)


def train_triage(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Option(help="Review comments: a file of JSON lines (.xz, .gz), or what mine-* filled.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that receives the weights.")],
    recipe: Annotated[Path | None, typer.Option(help="Another recipe than model/triage/recipe.toml.")] = None,
    elsewhere: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Comments never taught, to judge what is written on.")
    ] = None,
    judge: Annotated[bool, typer.Option(help="First train without each repository, and without the newest.")] = True,
) -> None:
    """Train triage from scratch on review comments, and judge it on those held out; minutes on one CPU core.

    The labels are keyword rules over the comment (model/triage/rule.py), so the rules themselves score 1.00.
    """
    from model.config import load_recipe
    from model.dataset import DataError
    from model.engine import ModelError
    from model.mining.comments import latest, read
    from model.triage.rule import BY_CONSTRUCTION
    from sentinelctl.cli.model import _needs_torch
    from sentinelctl.errors import SentinelError, UsageError

    _needs_torch()
    from model.triage import train as training

    console, path = ctx.obj.console, recipe or training.RECIPE
    try:
        chosen = load_recipe(path)
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    try:
        document = training.train(
            chosen,
            latest(read(data)),
            out,
            console.note,
            is_judged=judge,
            elsewhere=latest(read(elsewhere)) if elsewhere is not None else (),
        )
    except (DataError, ModelError) as exc:
        raise SentinelError(str(exc)) from exc
    if console.is_json:
        console.document({"version": 1, "manifest": document})
        return
    if document["heldout"]:
        console.out.print(figures_table(document["heldout"]))
    console.note(f"weights in {out}; {BY_CONSTRUCTION}")


def eval_triage(
    ctx: typer.Context,
    data: Annotated[
        Path, typer.Option(help="Review comments: a file of JSON lines (.xz, .gz), or what mine-* filled.")
    ],
    weights: Annotated[Path | None, typer.Option(help="Folder of triage weights; default the shipped ones.")] = None,
) -> None:
    """Judge triage weights on review comments, beside the commonest answer and the rules that label them."""
    from model.dataset import DataError
    from model.engine import ModelError
    from model.mining.comments import latest, read
    from model.triage.engine import load_triage
    from model.triage.evaluate import judge
    from model.triage.rule import BY_CONSTRUCTION
    from sentinelctl.errors import SentinelError

    console = ctx.obj.console
    try:
        engine = load_triage(weights)
        comments = latest(read(data))
        if not comments:
            raise DataError(f"{data} holds no review comments")
    except (DataError, ModelError) as exc:
        raise SentinelError(str(exc)) from exc
    found = judge(engine, comments)
    if console.is_json:
        console.document({"version": 1, "digest": engine.manifest.digest, "heldout": {data.name: found}})
        return
    console.out.print(figures_table({data.name: found}))
    taught = ", ".join(engine.manifest.document["data"]["repositories"])
    console.note(f"the weights were taught by comments of {taught}; {BY_CONSTRUCTION}")


def figures_table(heldout: dict[str, Any]) -> "Table":
    """Of each split: the network beside what knows less, and the rule beside what learned it."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    every = {"model": "model", "linear": "linear n-grams", "majority": "majority", "rule": "the rule itself"}
    names = {name: title for name, title in every.items() if all(name in found for found in heldout.values())}
    for title in names.values():
        table.add_column(title, justify="right")
    rows = {
        "severity accuracy": "accuracy",
        "severity balanced": "balanced_accuracy",
        "category accuracy": "category_accuracy",
        "category balanced": "category_balanced_accuracy",
    }
    for split, found in heldout.items():
        table.add_row(f"{split}, {found['comments']:,} comments", style="dim")
        for title, key in rows.items():
            table.add_row(f"  {title}", *(f"{found[name][key]:.3f}" for name in names))
    return table
