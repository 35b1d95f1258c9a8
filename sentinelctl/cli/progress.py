"""How the lifecycle commands name services and tell what they do."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import typer

from sentinelctl.console import Console
from sentinelctl.errors import Exit, UsageError
from sentinelctl.runtime.base import Applied
from sentinelctl.state import Kind, Operation, Plan

if TYPE_CHECKING:
    from sentinelctl.lifecycle import Project

_DONE: Final = {
    Kind.START: "started",
    Kind.STOP: "stopped",
    Kind.REPLACE: "replaced",
    Kind.ADOPT: "adopted",
    Kind.BUILD: "built",
    Kind.PULL: "pulled",
    Kind.CREATE: "created",
    Kind.REMOVE: "removed",
}


def named_services(
    words: Sequence[str] | None, services: Collection[str], *, replicas: Collection[str] = ()
) -> list[str]:
    """The services, or `replicas`, that were named; all services when none was. Raises UsageError for another name."""
    named = [word.strip() for word in words or ()]
    for name in named:
        if name not in services and name not in replicas:
            raise UsageError(f"no service is named {name!r}", remedy=f"there are {', '.join(services)}")
    return named or list(services)


def described(plan: Plan) -> list[str]:
    """One line an operation, with its cause."""
    width = max([12, *(len(one.replica) for one in plan.operations)])
    return [f"{one.kind:<8} {one.replica:<{width}} {one.cause}" for one in plan.operations]


def reporter(console: Console) -> Callable[[Operation, Applied], None]:
    """Prints each operation once it is done."""

    def report(operation: Operation, applied: Applied) -> None:
        pid = f"pid {applied.pid}" if applied.pid else "by force" if applied.was_killed else ""
        console.note(f"{_DONE[operation.kind]:<8} {operation.replica:<12} {pid:<12} {operation.cause}")

    return report


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each build and pull on a terminal; a line at its start elsewhere."""
    if not console.err.is_terminal:
        told: set[str] = set()

        def tell(what: str, _done: int, _of: int) -> None:
            if what not in told:
                told.add(what)
                console.note(f"{what} …")

        yield tell
        return
    from rich.progress import Progress

    progress = Progress(console=console.err, transient=True)
    tasks: dict[str, Any] = {}

    def show(what: str, done: int, of: int) -> None:
        if what not in tasks:
            progress.start()  # only now: it takes the terminal over, and most plans have nothing to show
            tasks[what] = progress.add_task(what, total=of)
        progress.update(tasks[what], completed=done, total=of)

    try:
        yield show
    finally:
        progress.stop()


def document(project: "Project", plan: Plan, *, is_dry_run: bool) -> dict[str, Any]:
    """What a command that changes something answers under --json."""
    return {
        "version": 1,
        "runtime": project.runtime.name,
        "is_dry_run": is_dry_run,
        "operations": plan.document(),
    }


def change(
    console: Console,
    project: "Project",
    planned: Callable[[], Plan],
    *,
    is_dry_run: bool,
    ready_s: float | None,
    before: Callable[[], None] = lambda: None,
    unchanged: str = "nothing to change",
) -> Plan:
    """Plans, applies that very plan under the lock and returns it.

    A dry run ends the command, with its document: typer.Exit, 100 when something would change.
    """
    console.note(project.headline)
    if is_dry_run:
        found = planned()
        for line in described(found) or [unchanged]:
            console.note(line)
        if console.is_json:
            console.document(document(project, found, is_dry_run=True))
        raise typer.Exit(Exit.CHANGES_PENDING if found.operations else Exit.DONE)
    began = time.monotonic()
    with project.locked():
        project.prepare()
        found = planned()
        before()
        try:
            with bars(console) as progress:
                project.apply(found, ready_s=ready_s, report=reporter(console), progress=progress)
        except KeyboardInterrupt:
            console.note("interrupted; what was started runs on: `sentinelctl status` shows it, `down` stops it")
            raise
    if not found.operations:
        console.note(unchanged)
    elif any(one.kind is not Kind.STOP for one in found.operations):
        waited = f"ready after {time.monotonic() - began:.1f} s"
        console.note(waited if ready_s is not None else "not waited for; `sentinelctl status` says when it is ready")
    return found
