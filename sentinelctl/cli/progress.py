"""How the lifecycle commands name services and tell what they do."""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import typer

from sentinelctl.console import Console
from sentinelctl.errors import Exit, UsageError
from sentinelctl.runtime.base import Applied
from sentinelctl.state import Operation, Plan

if TYPE_CHECKING:
    from sentinelctl.lifecycle import Project


def named_services(words: Sequence[str] | None, services: Collection[str]) -> list[str]:
    """The services that were named, all when none was. Raises UsageError for a name there is none of."""
    named = [word.strip() for word in words or ()]
    for name in named:
        if name not in services:
            raise UsageError(f"no service is named {name!r}", remedy=f"there are {', '.join(services)}")
    return named or list(services)


def described(plan: Plan) -> list[str]:
    """One line an operation, with its cause."""
    return [_line(operation) for operation in plan.operations] or ["nothing to change"]


def reporter(console: Console) -> Callable[[Operation, Applied], None]:
    """Prints each operation once it is done."""

    def report(operation: Operation, applied: Applied) -> None:
        pid = f" (pid {applied.pid})" if applied.pid else ""
        console.note(f"{_line(operation)}{pid}{', by force' if applied.was_killed else ''}")

    return report


def _line(operation: Operation) -> str:
    return f"{operation.kind:<8}{operation.replica:<13} {operation.cause}"


def change(
    console: Console,
    project: "Project",
    planned: Callable[[], Plan],
    *,
    is_dry_run: bool,
    ready_s: float | None,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Plans, and applies that very plan under the lock. Raises typer.Exit(100) for a dry run with changes."""
    console.note(f"runtime: {project.runtime.name}, state in {project.state_dir.path}")
    if is_dry_run:
        found = planned()
    else:
        with project.locked():
            project.prepare()
            found = planned()
            before()
            project.apply(found, ready_s=ready_s, report=reporter(console))
    if is_dry_run or not found.operations:
        for line in described(found):
            console.note(line)
    if console.is_json:
        console.document(
            {
                "version": 1,
                "runtime": project.runtime.name,
                "is_dry_run": is_dry_run,
                "operations": found.document(),
            }
        )
    if is_dry_run and found.operations:
        raise typer.Exit(Exit.CHANGES_PENDING)
