"""sentinelctl demo: real commits in, reviews out, on this machine and against a local GitHub."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    ctx: typer.Context,
    repo: Annotated[Path, typer.Option(help="A git repository. Default: here.")] = Path(),
    pushes: Annotated[int, typer.Option(min=1, max=1000, help="Commits to push, newest last.")] = 10,
    rate: Annotated[float, typer.Option(min=0.01, max=1000, help="Deliveries a second.")] = 1.0,
    latency_ms: Annotated[float, typer.Option(min=0, help="Time the local GitHub takes to answer.")] = 300.0,
    wait_s: Annotated[float, typer.Option(min=1, help="Longest wait for the last review.")] = 90.0,
    svg: Annotated[Path | None, typer.Option(help="Also write what is shown as a picture.")] = None,
) -> None:
    """Run the whole pipeline on a repository's own commits and show the reviews as they arrive.

    Serves the repository through fakehub, starts every service, sends one signed webhook a second for each of the
    last commits and for a pull request made of the last few, and stops everything again. Processes, unless
    --runtime docker asks for containers. Exit code 99 when a delivery was lost or reviewed twice.
    """
    import asyncio
    import secrets
    import shutil
    import tempfile
    import time
    from contextlib import ExitStack

    from rich.console import Console as RichConsole

    from sentinelctl.cli.progress import bars
    from sentinelctl.console import clean
    from sentinelctl.demo import show
    from sentinelctl.demo.history import read_history
    from sentinelctl.demo.run import Pace, Run, demo_settings, keep_logs, read_log
    from sentinelctl.errors import Exit
    from sentinelctl.fakehub.server import running_fakehub
    from sentinelctl.lifecycle import Project

    console = ctx.obj.console
    history = read_history(repo, pushes)
    screen = RichConsole(
        record=svg is not None,
        width=112 if svg else None,
        highlight=False,
        stderr=console.is_json,
        soft_wrap=svg is None,
    )
    token = secrets.token_hex(20)
    folder = Path(tempfile.mkdtemp(prefix="sentinel-demo-"))
    settings = ctx.obj.written()
    with ExitStack() as stack:
        progress = stack.enter_context(bars(console))
        if settings.project.runtime == "docker":
            from sentinelctl.demo.place import Containers

            settings = ctx.obj.settings()
            place = Containers(settings, progress)
            fakehub = stack.enter_context(place.fakehub(repo, token=token, latency_ms=latency_ms))
            url = place.api_url(fakehub)
            project = Project(demo_settings(settings, url, token, folder, runtime="docker", log=place.log))
            where = f"docker runtime, on {'Kafka' if place.log == 'kafka' else 'SQLite on a shared volume'}"
            where += f" ({', '.join(place.missing)} cannot be had)" if place.missing else ""
            project.take_down(with_volumes=True)  # of a demo that was killed
        else:
            fakehub = stack.enter_context(running_fakehub([repo], token=token, latency_ms=latency_ms))
            project = Project(demo_settings(settings, fakehub.url, token, folder))
            where = "embedded runtime"
        screen.print(f"{where}: {len(history.pushes)} pushes and a pull request from {clean(str(repo.resolve()))}")
        if history.note:
            screen.print(history.note, markup=False, style="yellow")
        try:
            began = time.monotonic()
            observed = project.bring_up(progress=progress)
            pids = ", ".join(f"{one.service} {one.pid}" for one in observed.replicas)
            screen.print(f"up in {time.monotonic() - began:.1f} s, pids: {pids}\n", style="dim")
            run = Run(fakehub.hub, history, project.settings, observed, lambda one: screen.print(show.arrival(one)))
            run.pace = Pace(rate, wait_s)
            visible = asyncio.run(run.go())
            result = run.result(visible, read_log(project))
            if project.is_docker and not result.is_whole:
                keep_logs(project)
        finally:
            project.take_down(with_volumes=True)
            project.runtime.close()
    show.summary(screen, result)
    if result.is_whole:
        shutil.rmtree(folder)
    else:
        screen.print(f"the logs of this run are kept in {folder}", style="red")
    if svg is not None:
        svg.parent.mkdir(parents=True, exist_ok=True)
        screen.save_svg(str(svg), title="sentinelctl demo")
    if console.is_json:
        console.document(result.document())
    if not result.is_whole:
        raise typer.Exit(Exit.THRESHOLD)
