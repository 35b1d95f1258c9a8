"""sentinelctl data mine-reviews, mine-archive, label: what people said of lines, and what triage says of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.mining.archive import Hour
    from model.mining.reviews import Mined
    from sentinelctl.console import Console
    from sentinelctl.download import Downloads
    from services.settings import Settings

ARCHIVE = "https://data.gharchive.org"
_TRIES = 3
"""Answers in a row that GitHub did not give; its limits are waited out however often."""
Out = Annotated[Path, typer.Option(help="Folder of the mined comments.")]


def register(app: typer.Typer) -> None:
    app.command("mine-reviews")(mine_reviews)
    app.command("mine-archive")(mine_archive)
    app.command("label")(label)


def mine_reviews(
    ctx: typer.Context,
    repo: Annotated[list[str], typer.Option(metavar="OWNER/NAME", help="A repository; repeatable.")],
    out: Out = Path("data/reviews"),
) -> None:
    """Fetch the review comments of repositories over GitHub's REST API; needs SENTINEL_GITHUB_TOKEN.

    A second run asks only for what changed since. Bots are left out, addresses and what looks like a secret dropped.
    """
    console, settings = ctx.obj.console, ctx.obj.settings()
    found = []
    for name in repo:
        mined = fetch_reviews(console, settings, name, out)
        found.append({key: getattr(mined, key) for key in ("repository", "comments", "new", "bots")})
        console.note(f"{name}: {mined.new:,} new comments, {mined.comments:,} in all; {mined.bots:,} of bots left out")
    if console.is_json:
        console.document({"version": 1, "repositories": found})


def fetch_reviews(console: "Console", settings: "Settings", name: str, out: Path) -> "Mined":
    """What the file of one repository holds now. Waits out GitHub's limits."""
    import asyncio
    import time

    from model.dataset import DataError
    from model.mining.reviews import Page, mine_reviews
    from sentinelctl.errors import SentinelError, UsageError
    from services.errors import ConfigError, Deferred, Poison, Retryable
    from services.github.client import CREDENTIALS_RETRY_S, PER_PAGE, GitHub
    from services.github.types import GitHubLimited, Repo
    from services.telemetry import Metrics

    def tell(mined: "Mined") -> None:
        console.note(f"{name}: {mined.comments:,} comments, up to {max(mined.seen.values(), default='now')}")

    with asyncio.Runner() as runner:
        try:
            repository = Repo(name)
            github = GitHub(settings.github.model_copy(update={"app_id": 0}), Metrics())
        except (ConfigError, Poison) as exc:
            raise UsageError(str(exc), remedy="--repo is OWNER/NAME; the token is in SENTINEL_GITHUB_TOKEN") from exc

        def ask(since: str, page: int, etag: str) -> Page:
            tries = 0
            while True:
                try:
                    got = runner.run(github.review_comments(repository, since=since, page=page, etag=etag))
                except GitHubLimited as exc:
                    console.note(f"{exc}; going on by itself")
                    time.sleep(exc.retry_after_s)
                except Deferred as exc:
                    tries += 1
                    if tries > _TRIES or exc.retry_after_s >= CREDENTIALS_RETRY_S:
                        raise
                    console.note(f"{exc}; asking again")
                    time.sleep(exc.retry_after_s * 2**tries)
                else:
                    comments = [each.model_dump() for each in got.comments]
                    return Page(comments, got.etag, len(comments) >= PER_PAGE, got.has_next, got.is_unchanged)

        try:
            return mine_reviews(name, out, ask, tell)
        except DataError as exc:
            raise SentinelError(str(exc)) from exc
        except (Deferred, Poison, Retryable) as exc:
            raise SentinelError(str(exc), remedy="run the same command again: it goes on where it stopped") from exc
        finally:
            runner.run(github.__aexit__())


def mine_archive(
    ctx: typer.Context,
    hours: Annotated[str, typer.Option(metavar="HOUR[..HOUR]", help="As 2024-01-01-15..2024-01-01-18, in UTC.")],
    out: Out = Path("data/reviews"),
    source: Annotated[str, typer.Option("--from", metavar="URL|DIR", help="Where the hourly files are.")] = ARCHIVE,
    pause: Annotated[float, typer.Option(min=0, help="Least seconds between two requests.")] = 1.0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the downloaded files, in OUT/archive.")] = False,
) -> None:
    """Take the review comments out of GH Archive's hourly files. An hour that was done is skipped.

    A download that broke off goes on where it stopped, and counts only with its length and its gzip's checksum.
    """
    from dataclasses import asdict

    import httpx2

    from model.dataset import DataError
    from model.mining import archive
    from sentinelctl.download import Downloads, Missing
    from sentinelctl.errors import UsageError

    console = ctx.obj.console
    try:
        wanted = archive.hours(hours)
    except DataError as exc:
        raise UsageError(str(exc)) from exc
    is_remote = source.startswith(("http://", "https://"))
    if not is_remote and not Path(source).is_dir():
        raise UsageError(f"--from {source} is neither an address nor a folder", remedy=f"the archive is at {ARCHIVE}")
    found, missing = [], []
    with httpx2.Client(timeout=60, follow_redirects=True, headers={"User-Agent": "sentinel-review"}) as client:
        downloads = Downloads(client, pause_s=pause)
        for hour in wanted:
            done = archive.done(out, hour)
            if done is None:
                try:
                    done = _hour(console, downloads if is_remote else None, source, hour, out, keep)
                except Missing as exc:
                    missing.append(hour)
                    console.note(f"{hour}: {exc.message}")
                    continue
            found.append(done)
            console.note(
                f"{hour}: {done.comments:,} review comments among {done.events:,} events, {done.bots:,} of bots"
            )
    if console.is_json:
        console.document({"version": 1, "hours": [asdict(each) for each in found], "missing": missing})
    if missing and not found:
        raise UsageError(f"none of the {len(missing)} hours is at {source}", remedy="check --hours and --from")


def label(
    ctx: typer.Context, folder: Annotated[Path, typer.Argument(metavar="DIR", help="What mine-* wrote.")]
) -> None:
    """Write into each mined comment what the triage rules say of it: severity and category."""
    from model.dataset import DataError
    from model.mining.label import label
    from model.triage.rule import BY_CONSTRUCTION
    from sentinelctl.cli.triage import counts_document, counts_table
    from sentinelctl.errors import SentinelError

    console = ctx.obj.console
    try:
        count = label(folder)
    except DataError as exc:
        raise SentinelError(str(exc)) from exc
    if console.is_json:
        console.document({"version": 1, "comments": count.total(), "counts": counts_document(count)})
        return
    console.out.print(counts_table(count))
    console.note(f"{count.total():,} comments; {BY_CONSTRUCTION}")


def _hour(console: "Console", downloads: "Downloads | None", source: str, hour: str, out: Path, keep: bool) -> "Hour":
    from model.mining import archive
    from sentinelctl.download import Missing
    from sentinelctl.errors import SentinelError

    name = f"{hour}.json.gz"
    if downloads is None:
        path = Path(source) / name
        if not path.exists():
            raise Missing(f"{path} is not there")
    else:
        path = out / "archive" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with _bar(console, name) as progress:
                downloads.fetch(f"{source.rstrip('/')}/{name}", path, progress)
    try:
        found = archive.extract(path, hour, out)
    except archive.BrokenArchive as exc:
        if downloads is not None:
            path.unlink()  # so that the next run downloads it anew
        raise SentinelError(str(exc), remedy="run the same command again") from exc
    if downloads is not None and not keep:
        path.unlink()
    return found


@contextmanager
def _bar(console: "Console", name: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not console.err.is_terminal:
        yield lambda _there, _total: None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console.err, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda there, total: progress.update(task, completed=there, total=total or None)
