"""sentinelctl fakehub: a GitHub on this machine, over local git repositories."""

from pathlib import Path
from typing import Annotated

import typer


def fakehub(
    ctx: typer.Context,
    repo: Annotated[
        list[Path] | None, typer.Option(help="A git repository to serve; repeatable. Default: here.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, max=1000, help="Repository ids over each: name, name-2, …")] = 1,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 0,
    latency_ms: Annotated[float, typer.Option(min=0, help="Time spent on each API answer.")] = 0.0,
    webhook: Annotated[
        str | None, typer.Option(help="Address for every repository's hook, signed with SENTINEL_WEBHOOK_SECRET.")
    ] = None,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Allow an address other hosts reach.")] = False,
) -> None:
    """Serve local git repositories through GitHub's REST routes, hunk rules included, until Ctrl-C.

    Answers need the token in SENTINEL_GITHUB_TOKEN where it is set. Nothing is written into a repository.
    """
    import asyncio
    import signal

    from sentinelctl.errors import UsageError
    from sentinelctl.fakehub.hub import FakeHub
    from sentinelctl.fakehub.server import serve

    console, settings = ctx.obj.console, ctx.obj.settings()
    token = settings.github.token.get_secret_value() or None
    hub = FakeHub(repo or [Path()], copies=copies, token=token, latency_ms=latency_ms)
    if webhook is not None:
        if not webhook.startswith(("http://", "https://")):
            raise UsageError(f"--webhook is {webhook!r}, no address", remedy="give http(s)://HOST:PORT/webhook")
        secret = settings.webhook.secret.get_secret_value() or None
        if secret is None:
            console.note("SENTINEL_WEBHOOK_SECRET is not set: deliveries go out unsigned, and a receiver refuses them")
        for served in hub.repositories:
            hub.add_hook(served, webhook, ("push", "pull_request"), secret)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with serve(hub, host, port, allow_remote=allow_remote) as url:
            if console.is_json:
                console.document(
                    {
                        "url": url,
                        "repositories": [
                            {"id": one.id, "full_name": one.full_name, "path": str(one.git.folder)}
                            for one in hub.repositories
                        ],
                    }
                )
            console.note(f"fakehub at {url}")
            for one in hub.repositories:
                console.note(
                    f"  {one.full_name} (id {one.id}): {one.git.folder}, {one.git.default_branch} at {one.git.tip[:12]}"
                )
            console.note("Ctrl-C ends it")
            await stop.wait()

    asyncio.run(run())
