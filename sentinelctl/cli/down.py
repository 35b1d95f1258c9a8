"""sentinelctl down: drains and stops everything; data stays unless asked otherwise."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def down(
    ctx: typer.Context,
    volumes: Annotated[bool, typer.Option("--volumes", help="Delete the log, the claims and the logs too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
) -> None:
    """Stop every service; keep the data."""
    import sys

    from sentinelctl.cli.progress import described, document, reporter
    from sentinelctl.errors import Exit, UsageError

    console = ctx.obj.console
    project = ctx.obj.project()
    console.note(project.headline)
    found, files = project.plan_down(with_volumes=volumes), project.data_files() if volumes else []
    data = [one.service for one in found.operations if one.service.startswith("volume ")]
    if dry_run:
        for line in [*described(found), *_listed("delete", files)] or ["nothing runs"]:
            console.note(line)
    elif (files or data) and not yes:
        if console.is_json or not sys.stdin.isatty():
            raise UsageError("--volumes deletes data and nobody can be asked", remedy="say --yes as well")
        for line in [*_listed("delete", files), *(f"delete   {one}" for one in data)]:
            console.note(line)
        if not typer.confirm("Delete these? Reviews not posted yet are lost", err=True):
            console.note("nothing was changed")
            raise typer.Exit(Exit.ERROR)
    if not dry_run and (found.operations or project.state_dir.path.is_dir()):
        with project.locked():
            found = project.plan_down(with_volumes=volumes)
            project.apply(found, report=reporter(console))
            project.forget_scale()
            files = project.delete_data() if volumes else []
        for line in _listed("deleted", files):
            console.note(line)
    if not dry_run and not found.operations:
        console.note("nothing runs")
    if console.is_json:
        console.document({**document(project, found, is_dry_run=dry_run), "deleted": [str(path) for path in files]})
    if dry_run and (found.operations or files):
        raise typer.Exit(Exit.CHANGES_PENDING)


def _listed(verb: str, files: "Sequence[Path]") -> list[str]:
    """One line a folder."""
    folders: dict[Path, list[str]] = {}
    for path in files:
        folders.setdefault(path.parent, []).append(path.name)
    return [f"{verb:<8} {folder}: {', '.join(names)}" for folder, names in folders.items()]
