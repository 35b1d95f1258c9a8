"""sentinelctl data: what the model learns from, mined from git histories on this machine."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sentinelctl.cli import data_reviews

if TYPE_CHECKING:
    from model.teachers import Teacher

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Mine git histories into data for training.")
data_reviews.register(app)

Out = Annotated[Path, typer.Option(help="Folder of the mined data, one file a repository.")]


@app.command("mine-git")
def mine_git(
    ctx: typer.Context,
    repositories: Annotated[list[Path], typer.Argument(metavar="PATH…", help="Git repositories, cloned or bare.")],
    out: Out = Path("data"),
    name: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Of a single PATH; default its origin's, or its folder's.")
    ] = None,
    commits: Annotated[int, typer.Option(min=1, help="Commits drawn from each history.")] = 3000,
    files: Annotated[int, typer.Option(min=1, help="File versions each analyzer is given, per language.")] = 1500,
    files_of: Annotated[
        list[str] | None,
        typer.Option(metavar="LANGUAGE=N", help="The same for one language, say one with a fast analyzer. Repeatable."),
    ] = None,
    modules: Annotated[Path, typer.Option(help="The node_modules that holds eslint.")] = Path("node_modules"),
    draws: Annotated[
        list[str] | None,
        typer.Option("--draw", metavar="NAME", help="sample, grave, injected, whole or fixes. Default all."),
    ] = None,
    searched: Annotated[int, typer.Option(min=0, help="Further commits looked through for grave faults.")] = 8000,
    seed: Annotated[int, typer.Option(help="Another one draws other commits and files.")] = 7,
) -> None:
    """Let the analyzers on this machine label the lines that past commits added. What is mined is skipped.

    The name decides whether a repository is trained on, chosen by, or tested on (sha256 of OWNER/NAME).
    """
    from dataclasses import asdict

    from model.dataset import DRAWS, split_of
    from model.mining.git import MineOptions, mine
    from sentinelctl.errors import PreflightError, UsageError

    console = ctx.obj.console
    if name is not None and len(repositories) > 1:
        raise UsageError("--name names one repository", remedy="give one PATH, or leave --name out")
    if name is not None and name.count("/") != 1:
        raise UsageError(f"--name {name} is not OWNER/NAME", remedy="the name decides the split, so give both parts")
    if unknown := set(draws or ()) - set(DRAWS):
        raise UsageError(f"no draw is called {', '.join(sorted(unknown))}", remedy=f"there are {', '.join(DRAWS)}")
    chosen = [draw for draw in DRAWS if not draws or draw in draws]
    options = MineOptions(
        commits=commits, seed=seed, max_files=files, files_of=_numbers(files_of or []), searched=searched
    )
    teachers, absent = _teachers(modules)
    for sentence in absent:
        console.note(f"mining goes without one analyzer: {sentence}")
    if not teachers:
        raise PreflightError("no analyzer is on this machine", remedy="pip install 'sentinel-review[teachers]'")
    for path in repositories:
        if not _git(path, "rev-parse", "--verify", "HEAD"):
            raise UsageError(f"{path} is no git repository with a commit in it", remedy="clone it first, whole or bare")
    mined = []
    for path in repositories:
        called = name or _called(path)
        for draw in chosen:
            if draw == "whole" and not draws and split_of(called) != "train":
                continue  # it says nothing of what commits add, so nothing is judged by it
            source = mine(path, called, out, teachers, options, draw)
            mined.append(asdict(source) | {"split": split_of(called), "draw": draw})
            console.note(
                f"{called}, {draw}: {source.lines:,} added lines in {source.hunks:,} hunks, {source.findings:,} with a "
                f"finding ({split_of(called)})"
            )
    if console.is_json:
        console.document({"version": 1, "repositories": mined})


@app.command("stats")
def stats(
    ctx: typer.Context,
    out: Out = Path("data"),
    sources: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write each source: head, licence, counts, as TSV.")
    ] = None,
) -> None:
    """What has been mined: repositories, lines and findings of each split and draw."""
    import json
    from collections import Counter

    from rich.table import Table

    from model.dataset import DRAWS, SPLITS, of_file, split_of
    from sentinelctl.errors import UsageError

    console, count, by_name = ctx.obj.console, Counter[tuple[str, str, str]](), dict[str, dict[str, Any]]()
    for path in sorted(out.glob("*.json")):
        (name, draw), source = of_file(path), json.loads(path.read_text("utf-8"))
        split = split_of(name)
        about = {"name": name, "split": split, "head": source["head"], "licence": source["licence"]}
        row = by_name.setdefault(name, about)
        if draw == "sample":
            row |= {key: source[key] for key in ("hunks", "lines", "findings")}
        else:
            row[draw] = source["hunks"]
        count[split, draw, "repositories"] += 1
        for key in ("hunks", "lines", "findings"):
            count[split, draw, key] += source[key]
    if not count:
        raise UsageError(f"{out} holds no mined data", remedy=f"`sentinelctl data mine-git PATH… --out {out}` fills it")
    if sources is not None:
        keys = ("name", "split", "head", "licence", "hunks", "lines", "findings", *DRAWS[1:])
        rows = [keys, *([str(row.get(key, 0)) for key in keys] for row in by_name.values())]
        sources.write_text("".join("\t".join(row) + "\n" for row in rows), "utf-8")
    columns = ("repositories", "hunks", "lines", "findings")
    drawn = [(split, draw) for split in SPLITS for draw in DRAWS if count[split, draw, "repositories"]]
    if console.is_json:
        document: dict[str, dict[str, Any]] = {split: {} for split, _ in drawn}
        for split, draw in drawn:
            document[split][draw] = {key: count[split, draw, key] for key in columns}
        console.document({"version": 1, "splits": document})
        return
    table = Table("split", "draw", box=None, header_style="dim", pad_edge=False)
    for key in columns:
        table.add_column(key, justify="right")
    for split, draw in drawn:
        table.add_row(split, draw, *(f"{count[split, draw, key]:,}" for key in columns))
    console.out.print(table)


def _teachers(modules: Path) -> "tuple[list[Teacher], list[str]]":
    """Those on this machine, and what is said of the others."""
    from model.labels import load_concepts, rules_of
    from model.teachers import (
        TeacherAbsent,
        astgrep,
        checkstyle,
        cppcheck,
        cpplint,
        eslint,
        flawfinder,
        ruff,
        shellcheck,
    )

    concepts = load_concepts()

    def rules(teacher: str) -> list[str]:
        return [rule for rule, _ in rules_of(teacher, concepts)]

    found, absent = [], []
    makers: tuple[Callable[[], Teacher], ...] = (
        lambda: ruff.teacher(rules("ruff")),
        lambda: eslint.teacher(rules("eslint"), modules),
        lambda: shellcheck.teacher(rules("shellcheck")),
        lambda: checkstyle.teacher(rules("checkstyle")),
        lambda: cpplint.teacher(rules("cpplint")),
        cppcheck.teacher,
        flawfinder.teacher,
        astgrep.teacher,
    )
    for make in makers:
        try:
            found.append(make())
        except TeacherAbsent as exc:
            absent.append(str(exc))
    return found, absent


def _numbers(words: list[str]) -> dict[str, int]:
    from model.inputs.tokenizer import LANGUAGES
    from sentinelctl.errors import UsageError

    parts = [word.partition("=") for word in words]
    for language, _, number in parts:
        if language not in LANGUAGES or not number.isdecimal() or not int(number):
            raise UsageError(
                f"--files-of {language}={number} is no LANGUAGE=N",
                remedy=f"N counts from 1, and there are {', '.join(LANGUAGES)}",
            )
    return {language: int(number) for language, _, number in parts}


def _called(path: Path) -> str:
    """OWNER/NAME by the address of origin, else by the last two folders."""
    import re

    address = _git(path, "remote", "get-url", "origin").rstrip("/") or str(path.resolve())
    *_, owner, last = ["local", *re.split(r"[/:]", address)]
    return f"{owner}/{last.removesuffix('.git')}"


def _git(path: Path, *arguments: str) -> str:
    """What git says, or nothing where it refuses."""
    import subprocess

    command = ["git", "-C", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
