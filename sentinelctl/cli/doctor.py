"""sentinelctl doctor: does this machine have what Sentinel needs."""

from typing import Annotated

import typer

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


def doctor(
    ctx: typer.Context,
    online: Annotated[bool, typer.Option("--online", help="Also ask GitHub whether it takes the token.")] = False,
) -> None:
    """Check what this machine needs.

    Python, libraries, the model, git, the state folder, disk, ports and secrets. Exit 3 when one of them fails.
    """
    from dataclasses import asdict

    from rich.text import Text

    from sentinelctl.checks import Verdict, run_checks
    from sentinelctl.errors import Exit

    console = ctx.obj.console
    found = []
    for check in run_checks(ctx.obj.project(), is_online=online):
        found.append(check)
        if not console.is_json:
            console.out.print(
                Text.assemble((f"{check.verdict:<8}", _STYLES[check.verdict]), f"{check.name:<15}", check.seen)
            )
            if check.remedy:
                console.out.print(f"{'':<23}{check.remedy}", markup=False)
    failed = [check.name for check in found if check.verdict is Verdict.FAILED]
    console.note(
        f"{len(failed)} of {len(found)} failed: {', '.join(failed)}"
        if failed
        else "all is there; next: `sentinelctl up`"
    )
    if console.is_json:
        console.document({"version": 1, "is_ok": not failed, "checks": [asdict(check) for check in found]})
    raise typer.Exit(Exit.PREFLIGHT if failed else Exit.DONE)
