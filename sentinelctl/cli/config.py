"""sentinelctl config: what is in force and why, a documented file to start from, and a check of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sentinelctl.errors import UsageError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show, write or check the settings.")


@app.command("show")
def show(ctx: typer.Context) -> None:
    """Show every setting in force, and its source.

    Of a secret only whether it is set.
    """
    from sentinelctl.config_file import Source, config_path, effective

    console = ctx.obj.console
    path = config_path(ctx.find_root().params["config"])
    found = list(effective(ctx.obj.written(), path))
    if console.is_json:
        document: dict[str, dict[str, object]] = {}
        for one in found:
            document.setdefault(one.section, {})[one.key] = {"value": one.value, "source": one.source.value}
        console.document({"version": 1, "file": str(path) if path.exists() else None, "settings": document})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("key", "value", "source"):
        table.add_column(name)
    for one in found:
        style = "dim" if one.source is Source.DEFAULT else ""
        table.add_row(f"{one.section}.{one.key}", Text(str(one.value)), one.source.value, style=style)
    console.out.print(table)
    console.note(f"file: {path}" if path.exists() else f"no file at {path}; `sentinelctl config init` writes one")


@app.command("init")
def init(
    ctx: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="Where; default ./sentinel.toml.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a settings file, every key explained."""
    from sentinelctl.config_file import config_path, render
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    target = path or config_path(ctx.find_root().params["config"])
    try:
        with target.open("w" if force else "x", encoding="utf-8") as file:
            file.write(render())
    except FileExistsError as exc:
        raise UsageError(f"{target} is there already", remedy="say --force to replace it, or name another") from exc
    except OSError as exc:
        raise _unwritable(target, exc) from exc
    console.note(f"wrote {target}; edit it, then `sentinelctl config validate`")
    if console.is_json:
        console.document({"version": 1, "path": str(target)})


@app.command("compose")
def compose(
    ctx: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="Where; default: standard output.")] = None,
) -> None:
    """Write the containers of `up` as a compose file.

    Of a secret its variable alone; our own images are those that `build` made last.
    """
    from sentinelctl import compose_file

    console, settings = ctx.obj.console, ctx.obj.written()
    folder = path.parent if path is not None else None
    if path is not None:
        try:
            path.write_text(compose_file.render(settings, folder), encoding="utf-8")
        except OSError as exc:
            raise _unwritable(path, exc) from exc
        console.note(f"wrote {path}")
    if console.is_json:
        file = str(path) if path is not None else None
        console.document({"version": 1, "path": file, "compose": compose_file.document(settings, folder)})
    elif path is None:
        console.text(compose_file.render(settings))


@app.command("validate")
def validate(ctx: typer.Context) -> None:
    """Check the settings file and the environment.

    Exit 2 names each fault.
    """
    from sentinelctl.config_file import config_path, unread

    console = ctx.obj.console
    ctx.obj.written()
    path = config_path(ctx.find_root().params["config"])
    warnings = unread()
    for line in warnings:
        console.note(f"warning: {line}")
    console.note(f"{path if path.exists() else f'no file at {path}: the defaults'} and the environment are valid")
    if console.is_json:
        file = str(path) if path.exists() else None
        console.document({"version": 1, "is_valid": True, "file": file, "warnings": warnings})


def _unwritable(path: Path, exc: OSError) -> "UsageError":
    from sentinelctl.errors import UsageError

    return UsageError(f"cannot write {path}: {exc.strerror}", remedy="name a file in a folder that exists")
