"""sentinelctl model: what the shipped weights are and know, and the steps that make others."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rich.table import Table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show, train, judge or export the model.")

Weights = Annotated[Path | None, typer.Option(help="Folder of weights; default the shipped ones.")]
Data = Annotated[Path, typer.Option(help="Folder that `sentinelctl data mine` filled.")]


@app.command("info")
def info(ctx: typer.Context, weights: Weights = None) -> None:
    """What the weights were trained on, and their held-out figures beside every baseline's."""
    from model.engine import ModelError, read_manifest
    from sentinelctl.errors import SentinelError

    try:
        manifest = read_manifest(weights)
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc
    console, document = ctx.obj.console, manifest.document
    if console.is_json:
        console.document({"version": 1, "manifest": dict(document)})
        return
    data, training, config = document["data"], document["training"], document["config"]
    languages = ", ".join(f"{name} {lines:,}" for name, lines in sorted(data["lines_of_language"].items()))
    console.out.print(f"[bold]{manifest.name} {manifest.version}[/], digest {manifest.digest[:12]}")
    for label, text in (
        ("network", f"{config['layers']} layers × {config['width']}, {config['vocab_size']:,} pieces"),
        ("answers", f"{len(manifest.concepts)} concepts in {', '.join(manifest.languages)}"),
        ("taught by", f"{data['lines']:,} added lines of {data['repositories']} repositories ({languages}),"),
        ("", f"{data['lines_with_a_finding']:,} of them with an analyzer's finding; data {data['digest'][:12]}"),
        ("trained", f"recipe {training['recipe']}, {training['minutes']} minutes, seed {training['seed']},"),
        ("", training["machine"]),
    ):
        console.out.print(f"{label:<10} {text}", markup=False)
    heldout = document.get("heldout")
    if not heldout:
        console.note("no held-out figures yet; `sentinelctl model eval --data DIR --write` makes them")
        return
    own = heldout["model"]
    console.out.print(
        f"\nheld out: {own['lines']:,} lines of {len(heldout['repositories'])} repositories never trained on\n"
    )
    console.out.print(_figures(heldout))
    shown, low_high = own["shown"]["any"], own["line_ap_95"]
    console.out.print(
        f"\nshown to users: {shown['lines']:,} lines, {_number(shown['precision'], '.0%')} right, "
        f"{_number(shown['recall'], '.0%')} of all found; "
        f"line AP {low_high[0]:.3f}–{low_high[1]:.3f} when repositories are drawn anew (95 %)",
        markup=False,
    )
    console.out.print(
        "A line's label is what the analyzers say of it, so these figures measure recognising their rules in the diff "
        "alone, not a reviewer's judgement.",
        style="dim",
    )


@app.command("concepts")
def concepts(
    ctx: typer.Context,
    language: Annotated[str | None, typer.Option(help="Only those asked of this language.")] = None,
) -> None:
    """The catalog: what a finding can say, with its severity and category. -v adds the texts."""
    from rich.table import Table

    from model.labels import CATEGORIES, SEVERITIES, load_concepts
    from sentinelctl.errors import UsageError
    from sentinelctl.review.explain import plain, spoken

    console, every = ctx.obj.console, load_concepts()
    if language is not None:
        languages = sorted({each for concept in every for each in concept.languages} - {"*"})
        if language not in languages:
            raise UsageError(f"no concept is asked of {language!r}", remedy=f"there are {', '.join(languages)}")
        every = tuple(concept for concept in every if concept.speaks(language))
    if console.is_json:
        console.document({"version": 1, "concepts": [plain(concept) for concept in every]})
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("category", "severity", "concept", "title", "languages", *(["text"] if console.is_verbose else [])):
        table.add_column(title)
    order = sorted(every, key=lambda each: (CATEGORIES.index(each.category), -SEVERITIES.index(each.severity), each.id))
    for concept in order:
        row = (concept.category, concept.severity, concept.id, concept.title, spoken(concept))
        table.add_row(*row, *([concept.say()] if console.is_verbose else []))
    console.out.print(table, markup=False)
    console.note(f"{len(every)} concepts; `sentinelctl review --explain CONCEPT` shows one")


_ROWS = (
    ("suggestion or worse, line AP", "line_ap"),
    ("the same, text never seen", "unseen_text"),
    ("any finding, AP", "any_ap"),
    ("any finding, AUC", "any_auc"),
    ("severity or none, macro-F1", "five_way_macro_f1"),
    ("recall of bugs at precision .5", "bug_recall_at_p50"),
    ("recall of criticals at precision .5", "critical_recall_at_p50"),
    ("given a finding: severity accuracy", "severity_accuracy"),
    ("given a finding: severity balanced", "severity_balanced_accuracy"),
    ("given a finding: category macro-F1", "category_macro_f1"),
    ("given a finding: concept macro-F1", "concept_macro_f1"),
    ("calibration error (lower is better)", "ece"),
)
_COLUMNS = (("model", "model"), ("linear", "linear n-grams"), ("size_only", "size only"), ("majority", "majority"))


def _figures(heldout: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for _, title in _COLUMNS:
        table.add_column(title, justify="right")
    for title, key in _ROWS:
        found = [heldout[name][key] for name, _ in _COLUMNS]
        values = [one["line_ap"] if isinstance(one, dict) else one for one in found]
        table.add_row(title, *(_number(value, ".3f") for value in values))
    return table


def _number(value: float | None, form: str) -> str:
    """A figure that could not be told, for want of lines, is a dash."""
    return "–" if value is None else format(value, form)


@app.command("train")
def train(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder that receives the weights.")],
    recipe: Annotated[str, typer.Option(help="A name in model/recipes, or a file.")] = "small",
    run: Annotated[Path | None, typer.Option(help="Folder of the run's state; the same one goes on.")] = None,
) -> None:
    """Train from scratch on mined data: tokenizer, encoder, calibration, int8 export. Goes on where it stopped."""
    _needs_torch()
    from model import train as training

    with _refusals():
        training.train(_recipe(recipe), _mined(data), out, run or out / "run", ctx.obj.console.note)
    ctx.obj.console.note(
        f"weights in {out}; `sentinelctl model eval --data {data} --weights {out} --write` judges them"
    )


@app.command("eval")
def evaluate(
    ctx: typer.Context,
    data: Data,
    weights: Weights = None,
    recipe: Annotated[str, typer.Option(help="Whose sampling the baselines use.")] = "small",
    write: Annotated[bool, typer.Option("--write", help="Keep the figures in the manifest.")] = False,
) -> None:
    """Judge weights on the test repositories, beside the baselines taught on the same data."""
    _needs_torch()
    from model.checkpoint import read_manifest, write_manifest
    from model.engine import WEIGHTS
    from model.evaluate import heldout

    console, folder = ctx.obj.console, weights or WEIGHTS
    with _refusals():
        found = heldout(folder, _mined(data), _recipe(recipe).train, console.note)
    if write:
        write_manifest(folder, read_manifest(folder) | {"heldout": found})
    if console.is_json:
        console.document({"version": 1, "heldout": found})
    else:
        console.out.print(_figures(found))


@app.command("export")
def export(
    ctx: typer.Context,
    weights: Weights = None,
    engine: Annotated[Literal["onnx", "torchscript"], typer.Option(help="Which engine's file.")] = "onnx",
) -> None:
    """Write an engine's file beside the weights, and enter its digest in their manifest."""
    _needs_torch()
    from model import checkpoint
    from model.engine import WEIGHTS
    from model.export import export_onnx, export_torchscript

    folder = weights or WEIGHTS
    with _refusals():
        encoder, _, manifest = checkpoint.load(folder)
    path = (export_onnx if engine == "onnx" else export_torchscript)(encoder, folder)
    checkpoint.write_manifest(folder, manifest)
    ctx.obj.console.note(f"wrote {path} ({path.stat().st_size:,} bytes)")
    if ctx.obj.console.is_json:
        ctx.obj.console.document({"version": 1, "path": str(path)})


@contextmanager
def _refusals() -> Iterator[None]:
    """What the model refuses, as an error of the command."""
    from model.checkpoint import CheckpointError
    from model.dataset import DataError
    from model.engine import ModelError
    from sentinelctl.errors import SentinelError

    try:
        yield
    except (CheckpointError, DataError, ModelError) as exc:
        raise SentinelError(str(exc)) from exc


def _needs_torch() -> None:
    from importlib.util import find_spec

    from sentinelctl.errors import PreflightError

    if missing := [name for name in ("torch", "onnx", "safetensors") if find_spec(name) is None]:
        raise PreflightError(
            f"training, judging and exporting need {missing[0]}, which is not installed",
            remedy="pip install 'sentinel-review[train]' (pyproject.toml says how to keep CUDA out)",
        )


def _recipe(name: str) -> Any:
    from model.config import RECIPES, load_recipe
    from sentinelctl.errors import UsageError

    path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
    try:
        return load_recipe(path)
    except FileNotFoundError as exc:
        there = ", ".join(sorted(one.stem for one in RECIPES.glob("*.toml")))
        raise UsageError(f"no recipe at {path}", remedy=f"there are {there}; or name a .toml file") from exc
    except ValueError as exc:
        raise UsageError(f"{path}: {exc}") from exc


def _mined(data: Path) -> Path:
    from sentinelctl.errors import UsageError

    if not any(data.glob("*.jsonl")):
        raise UsageError(f"{data} holds no mined data", remedy=f"`sentinelctl data mine PATH… --out {data}` fills it")
    return data
