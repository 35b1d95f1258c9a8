"""sentinelctl down: drains and stops everything; data stays unless asked otherwise."""

from typing import Annotated

import typer


def down(
    ctx: typer.Context,
    volumes: Annotated[bool, typer.Option("--volumes", help="Delete the log, the claims and the logs too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan; exit 100 when it is not empty.")] = False,
) -> None:
    """Stop every service; keep the data."""
    import sys

    from sentinelctl.cli.progress import described, reporter
    from sentinelctl.errors import Exit, UsageError
    from sentinelctl.lifecycle import Project

    console = ctx.obj.console
    project = Project(ctx.obj.settings())
    console.note(f"runtime: {project.runtime.name}, state in {project.state_dir.path}")
    files = project.data_files() if volumes else []
    if dry_run:
        found = project.plan_down()
        for line in [*described(found), *(f"delete  {path}" for path in files)]:
            console.note(line)
        if console.is_json:
            document = {"version": 1, "runtime": project.runtime.name, "operations": found.document()}
            console.document({**document, "is_dry_run": True, "deleted": [str(path) for path in files]})
        raise typer.Exit(Exit.CHANGES_PENDING if found.operations or files else Exit.DONE)
    if files and not yes:
        if console.is_json or not sys.stdin.isatty():
            raise UsageError("--volumes deletes data and nobody can be asked", remedy="say --yes as well")
        for path in files:
            console.note(f"delete  {path}")
        typer.confirm("Delete these files? Reviews not posted yet are lost", abort=True, err=True)
    if not project.state_dir.path.is_dir():
        console.note("nothing runs")
        if console.is_json:
            console.document({"version": 1, "runtime": project.runtime.name, "operations": [], "deleted": []})
        return
    with project.locked():
        found = project.plan_down()
        project.apply(found, report=reporter(console))
        project.forget_scale()
        if volumes:
            files = project.delete_data()
    if not found.operations:
        console.note("nothing runs")
    for path in files:
        console.note(f"deleted {path}")
    if console.is_json:
        deleted = [str(path) for path in files]
        console.document(
            {"version": 1, "runtime": project.runtime.name, "operations": found.document(), "deleted": deleted}
        )
