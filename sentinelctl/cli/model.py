"""sentinelctl model: what the shipped weights are and know, and the steps that make others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sentinelctl.cli import adapt, model_read, model_triage

if TYPE_CHECKING:
    from rich.table import Table

    from model.engine import Manifest
    from model.inputs.diff import Hunk

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show, train, judge or export the model.")
app.command("adapt")(adapt.adapt)
app.command("read")(model_read.read)
model_triage.register(app)

Weights = Annotated[Path | None, typer.Option(help="Folder of weights; default the shipped ones.")]
Data = Annotated[Path, typer.Option(help="Folder that `sentinelctl data mine-git` filled.")]


@app.command("info")
def info(ctx: typer.Context, weights: Weights = None) -> None:
    """What the weights were trained on, and their held-out figures beside every baseline's."""
    from model.engine import ModelError, read_manifest
    from model.report import number, summary
    from sentinelctl.errors import SentinelError

    try:
        manifest = read_manifest(weights)
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc
    console, document = ctx.obj.console, manifest.document
    if console.is_json:
        console.document(
            {
                "version": 1,
                "manifest": dict(document),
                "heldout": summary(document),
                "load_ms": _load_ms(weights, manifest),
            }
        )
        return
    data, training, config = document["data"], document["training"], document["config"]
    parameters = f", {document['parameters']:,} parameters" if "parameters" in document else ""
    languages = ", ".join(f"{name} {lines:,}" for name, lines in sorted(data["lines_of_language"].items()))
    console.out.print(f"[bold]{manifest.name} {manifest.version}[/], digest {manifest.digest[:12]}")
    for label, text in (
        ("network", f"{config['layers']} layers × {config['width']}, {config['vocab_size']:,} pieces{parameters}"),
        ("answers", f"{len(manifest.concepts)} concepts in {', '.join(manifest.languages)}"),
        ("taught by", f"{data['lines']:,} added lines of {data['repositories']} repositories ({languages}),"),
        ("", f"{data['lines_with_a_finding']:,} of them with an analyzer's finding; data {data['digest'][:12]}"),
        ("trained", f"recipe {training['recipe']}, {training['minutes']} minutes, seed {training['seed']},"),
        ("", training["machine"]),
        *(("", f"after {each['minutes']} minutes on {each['data']['lines']:,} lines") for each in _lineage(training)),
        ("loads in", _loads(_load_ms(weights, manifest))),
    ):
        console.out.print(f"{label:<10} {text}", markup=False)
    if "adapted" in document:
        console.out.print()
        adapt.told(document["adapted"], console.out)
    heldout = document.get("heldout")
    if not heldout:
        console.note("no held-out figures yet; `sentinelctl model eval --data DIR --write` makes them")
        return
    own = heldout["model"]
    console.out.print(
        f"\nheld out: {own['lines']:,} lines of {len(heldout['repositories'])} repositories never trained on\n"
    )
    console.out.print(_figures(heldout))
    shown, low_high = own["shown"]["any"], own["intervals"]["line_ap"] if "intervals" in own else own["line_ap_95"]
    console.out.print(
        f"\nshown to users: {shown['lines']:,} lines, {number(shown['precision'], '.0%')} right, "
        f"{number(shown['recall'], '.0%')} of all found; "
        f"line AP {low_high[0]:.3f}–{low_high[1]:.3f} when repositories are drawn anew (95 %)",
        markup=False,
    )
    console.out.print(
        "A line's label is what the analyzers say of it, so these figures measure recognising their rules in the diff "
        "alone, not a reviewer's judgement.",
        style="dim",
    )


def _lineage(training: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The runs that these weights began from, newest first."""
    while training := training.get("begun_from", {}):
        yield training


def _load_ms(weights: Path | None, manifest: "Manifest") -> dict[str, float | None]:
    """Milliseconds until an engine can answer, imports apart; None where it has no file, or torch is not installed."""
    import time
    from importlib.util import find_spec

    from model.engine import WEIGHTS, load_engine

    found: dict[str, float | None] = {}
    for engine, file, needs in (
        ("onnx", "encoder.int8.onnx", "onnxruntime"),
        ("torchscript", "encoder.torchscript.pt", "torch"),
    ):
        found[engine] = None
        if file in manifest.files and find_spec(needs) is not None:
            __import__(needs)
            began = time.perf_counter()
            with _refusals():
                load_engine(engine, weights or WEIGHTS)
            found[engine] = round(1000 * (time.perf_counter() - began), 1)
    return found


def _loads(milliseconds: dict[str, float | None]) -> str:
    known = [f"{value:.0f} ms as {name}" for name, value in milliseconds.items() if value is not None]
    return ", ".join(known) or "no engine: neither has a file here that can be loaded"


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


def _figures(heldout: dict[str, Any]) -> "Table":
    from rich.table import Table

    from model.report import NAMES, TITLES, apart, bars, number

    told = bars(heldout)

    def asked(title: str) -> str:
        return f"{number(told[title][0])} {'met' if told[title][1] else 'missed'}" if title in told else ""

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for title in (*NAMES.values(), "asked"):
        table.add_column(title, justify="right")
    for key, title in TITLES.items():
        table.add_row(title, *(number(heldout[name][key]) for name in NAMES), asked(title))
        if key == "line_ap":
            table.add_row("the same, text never seen", *(number(heldout[name]["unseen_text"][key]) for name in NAMES))
    table.add_section()
    for title, values in apart(heldout).items():
        table.add_row(title, *(number(values[name]) for name in NAMES), asked(title))
    return table


def _matrix(table: Any, names: list[str]) -> "Table":
    from rich.table import Table

    shown = Table("", box=None, header_style="dim", pad_edge=False)
    for name in names:
        shown.add_column(name.replace("_", " "), justify="right")
    for name, counts in zip(names, table, strict=True):
        shown.add_row(name.replace("_", " "), *(f"{count:,}" for count in counts))
    return shown


@app.command("train")
def train(
    ctx: typer.Context,
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder that receives the weights.")],
    recipe: Annotated[str, typer.Option(help="A name in model/recipes, or a file.")] = "small",
    run: Annotated[Path | None, typer.Option(help="Folder of the run's state; the same one goes on.")] = None,
    start: Annotated[
        Path | None, typer.Option("--from", metavar="WEIGHTS", help="Begin from these weights, not from chance.")
    ] = None,
) -> None:
    """Train from scratch on mined data: tokenizer, encoder, calibration, int8 export. Goes on where it stopped."""
    _needs_torch()
    from model import train as training

    with _refusals():
        training.train(_recipe(recipe), _mined(data), out, run or out / "run", ctx.obj.console.note, start=start)
    ctx.obj.console.note(
        f"weights in {out}, the loss in {(run or out / 'run') / 'loss.svg'}; "
        f"`sentinelctl model eval --data {data} --weights {out} --write` judges them"
    )


@app.command("eval")
def evaluate(
    ctx: typer.Context,
    data: Data,
    weights: Weights = None,
    recipe: Annotated[str, typer.Option(help="Whose sampling the baselines use.")] = "small",
    write: Annotated[bool, typer.Option("--write", help="Keep the figures in the manifest.")] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with every table and picture, and the pictures.")
    ] = None,
) -> None:
    """Judge weights on the test repositories, beside the baselines taught on the same data."""
    _needs_torch()
    from model import report as pages
    from model.checkpoint import read_manifest, write_manifest
    from model.engine import WEIGHTS
    from model.evaluate import judge
    from model.labels import CATEGORIES, SEVERITIES

    console, folder = ctx.obj.console, weights or WEIGHTS
    with _refusals():
        judged = judge(folder, _mined(data), _recipe(recipe).train, console.note)
    if write:
        write_manifest(folder, read_manifest(folder) | {"heldout": judged.figures})
    if report is not None:
        console.note(f"wrote {pages.write(judged, read_manifest(folder), report)}")
    if console.is_json:
        console.document({"version": 1, "heldout": judged.figures, "curves": pages.plain(judged)})
        return
    console.out.print(_figures(judged.figures))
    own = judged.curves["model"]
    for title, table, names in (("severity", own.severity, SEVERITIES), ("category", own.category, CATEGORIES)):
        console.out.print(
            f"\n{title} of each line, end to end: truth by row, the model's answer by column", markup=False
        )
        console.out.print(_matrix(table, ["none", *names]))


@app.command("export")
def export(
    ctx: typer.Context,
    weights: Weights = None,
    engine: Annotated[Literal["onnx", "torchscript"], typer.Option(help="Which engine's file.")] = "onnx",
) -> None:
    """Write an engine's file beside the weights, and enter its digest in their manifest."""
    _needs_torch()
    from dataclasses import asdict

    from model import checkpoint
    from model.engine import WEIGHTS, load_forward, read_manifest
    from model.export import export_onnx, export_torchscript, own_rows, parity

    folder = weights or WEIGHTS
    with _refusals():
        encoder, tokenizer, manifest = checkpoint.load(folder)
    path = (export_onnx if engine == "onnx" else export_torchscript)(encoder, folder)
    checkpoint.write_manifest(folder, manifest)
    with _refusals():
        served = load_forward(engine, folder, read_manifest(folder))
    same = parity(encoder, served, own_rows(tokenizer, encoder.config.max_tokens))
    console = ctx.obj.console
    console.note(
        f"wrote {path} ({path.stat().st_size:,} bytes); beside torch on {same.rows:,} lines of our own source: "
        f"the same label {same.same_label:.1%}, largest difference of a probability {same.largest_gap:.4f}"
    )
    if console.is_json:
        console.document({"version": 1, "path": str(path), "parity": asdict(same)})


@app.command("infer")
def infer(
    ctx: typer.Context,
    diff: Annotated[str, typer.Argument(metavar="FILE|-", help="A unified diff.")],
    weights: Weights = None,
    engine: Annotated[Literal["onnx", "torchscript"], typer.Option(help="Which engine answers.")] = "onnx",
) -> None:
    """What the model says of each added line of one diff, from 10 % confidence on, shown to users or not."""
    from rich.table import Table

    from model.engine import load_engine, review
    from sentinelctl.console import clean

    console, hunks = ctx.obj.console, _hunks(diff)
    with _refusals():
        loaded = load_engine(engine, weights)
        found = [finding for findings in review(loaded, hunks) for finding in findings]
    if console.is_json:
        plain = [{name: getattr(each, name) for name in each.__slots__} for each in found]
        console.document({"version": 1, "digest": loaded.info.digest, "findings": plain})
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("place", "confidence", "shown", "severity", "concept"):
        table.add_column(title)
    for each in found:
        shown = "yes" if each.is_shown else "no"
        table.add_row(clean(f"{each.path}:{each.line}"), f"{each.confidence:.0%}", shown, each.severity, each.concept)
    console.out.print(table, markup=False)
    console.note(f"{len(found)} findings on {sum(line.kind == 'add' for h in hunks for line in h.lines)} added lines")


@app.command("serve-check")
def serve_check(
    ctx: typer.Context,
    diff: Annotated[str | None, typer.Argument(metavar="[FILE|-]", help="A unified diff.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Instead of a diff: the test repositories of this folder of mined data.")
    ] = None,
    weights: Weights = None,
    limit: Annotated[int, typer.Option(min=1, help="Hunks of --data.")] = 1000,
) -> None:
    """Compare what training and serving make of the same hunks, row by row and finding by finding."""
    from dataclasses import asdict
    from itertools import islice

    from model import dataset, skew
    from model.engine import WEIGHTS, load_engine, read_manifest
    from model.inputs.chunk import MAX_TOKENS
    from model.inputs.tokenizer import Tokenizer
    from model.labels import load_concepts
    from sentinelctl.errors import Exit, SentinelError, UsageError

    if (diff is None) == (data is None):
        raise UsageError("serve-check wants hunks", remedy="give a diff, or --data with a folder of mined data")
    with _refusals():
        manifest, loaded = read_manifest(weights), load_engine(weights=weights)
    tokenizer = Tokenizer.load((weights or WEIGHTS) / "tokenizer.model")
    by_id = {concept.id: concept for concept in load_concepts()}
    concepts = [by_id[name] for name in manifest.concepts]
    if diff is not None:
        hunks = _hunks(diff)
    else:
        hunks = [record.hunk for record in islice(dataset.read(_mined(data or Path()), "test"), limit)]
    max_tokens = int(manifest.document.get("config", {}).get("max_tokens", MAX_TOKENS))
    found = skew.compare(loaded, tokenizer, concepts, max_tokens, hunks)
    if ctx.obj.console.is_json:
        ctx.obj.console.document({"version": 1, **asdict(found), "is_none": found.is_none})
    else:
        ctx.obj.console.out.print(
            f"{found.lines:,} lines and {found.findings:,} findings of {found.hunks:,} hunks ({found.skipped} in a "
            f"language not taught): {len(found.other_rows)} rows and {len(found.other_findings)} findings differ; "
            f"largest difference of a confidence {found.largest_gap:.1e}",
            markup=False,
        )
    if not found.is_none:
        places = ", ".join([*found.other_rows, *found.other_findings][:5])
        raise SentinelError(
            f"serving does not read or answer as training does, at {places}",
            remedy="weights and code are of two versions: export the weights anew, or train again",
            exit_code=Exit.THRESHOLD,
        )


def _hunks(diff: str) -> "list[Hunk]":
    from model.inputs.diff import DiffError, parse_diff
    from sentinelctl.errors import UsageError
    from sentinelctl.review.change import read_file

    change = read_file(diff)
    try:
        return [hunk for file in parse_diff(change.diff) for hunk in file.hunks]
    except DiffError as exc:
        raise UsageError(
            f"{change.label} is no diff that can be read: {exc}",
            remedy="give a unified one, as `git diff` and `diff -u` write it",
        ) from exc


@contextmanager
def _refusals() -> Iterator[None]:
    """What the model refuses, as an error of the command."""
    from model.dataset import DataError
    from model.engine import ModelError
    from sentinelctl.errors import SentinelError

    try:
        yield
    except (DataError, ModelError) as exc:
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
        raise UsageError(
            f"{data} holds no mined data", remedy=f"`sentinelctl data mine-git PATH… --out {data}` fills it"
        )
    return data
