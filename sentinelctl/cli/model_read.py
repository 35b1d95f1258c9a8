"""sentinelctl model read: a blind sheet of findings to judge, and what the judgement says."""

from pathlib import Path
from typing import Annotated

import typer

SHEET = Path("build/read.md")


def read(
    ctx: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder that `sentinelctl data mine-git` filled.")],
    weights: Annotated[Path | None, typer.Option(help="Folder of weights; default the shipped ones.")] = None,
    seed: Annotated[int, typer.Option(help="Draws the sheet; the same one draws the same.")] = 7,
    min_confidence: Annotated[
        float, typer.Option(min=0, max=1, help="Least confidence of the model's; the default is that of `review`.")
    ] = 0.6,
    recipe: Annotated[str, typer.Option(help="Whose sampling the linear model uses.")] = "small",
    sheet: Annotated[
        Path, typer.Option(metavar="FILE", help="Receives the lines to read: other people's code.")
    ] = SHEET,
    verdicts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="hash, verdict (act or leave) and reason of each, as TSV: score it."),
    ] = None,
) -> None:
    """Draw 100 findings of severity bug or worse, among 50 of the linear model's and 50 by chance, to judge blind.

    Without --verdicts the sheet is written; with it, the share that a reviewer would act on is printed, by source.
    """
    from model import reading
    from model.engine import WEIGHTS
    from sentinelctl.cli.model import _mined, _needs_torch, _recipe, _refusals

    _needs_torch()
    console = ctx.obj.console
    with _refusals():
        judged = reading.verdicts(verdicts) if verdicts is not None else {}
        items = reading.draw(weights or WEIGHTS, _mined(data), seed, _recipe(recipe).train, min_confidence)
        if verdicts is None:
            reading.write(items, sheet)
            console.note(f"{len(items)} to read in {sheet}, seed {seed}; judge them, then --verdicts FILE")
            return
        found = reading.score(items, judged)
    if console.is_json:
        console.document({"version": 1, "seed": seed, "read": found})
        return
    for source in reading.NUMBERS:
        parts = ", ".join(
            f"{name} {each['act']} of {each['read']}" for name, each in found[source].items() if each["read"]
        )
        console.out.print(f"{source:<7} a reviewer would act on: {parts}", markup=False)
    if found["unread"]:
        console.note(f"{found['unread']} of the sheet have no verdict")
