"""sentinelctl replay: past pushes through the present model, to look at or to post, or through two models."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType
    from sentinel.v1.events_pb2 import ReviewReady

    from model.engine import ModelInfo
    from sentinelctl.console import Console
    from sentinelctl.log.past import Past, Unit
    from sentinelctl.log.rehearsal import Said
    from services.settings import Settings


def replay(
    ctx: typer.Context,
    since: Annotated[
        str | None, typer.Option(metavar="SPAN", help="Events of the last 15m, 2h or 1d; the log keeps a day.")
    ] = None,
    delivery: Annotated[str | None, typer.Option(metavar="ID", help="The event of one X-GitHub-Delivery.")] = None,
    repo: Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Events of one repository.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many, the newest.")] = None,
    post: Annotated[bool, typer.Option("--post", help="Post the reviews anew, beside those that stand.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which events; exit 100 if any.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Longest wait for the answers, in seconds.")] = 300.0,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="A", help="Compare this folder of weights; posts nothing.")
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="B", help="With that one; default the present weights.")
    ] = None,
) -> None:
    """Show what the model says of past events, or two models.

    Each push or pull-request head is taken once. Without --post nothing is posted: an extractor and an inference
    server of its own, which end with it, read GitHub and answer here. With --post each event goes back into the log
    in its next revision, and the running services post a second review of it.

    With --model the events go through two folders of weights, one after the other, so GitHub is read twice. What only
    A shows is listed, what only B, and how sure each is of what both do.
    """
    import time

    from sentinelctl.duration import seconds
    from sentinelctl.errors import Exit, UsageError

    console, settings = ctx.obj.console, ctx.obj.settings()
    if since is None and delivery is None and repo is None:
        raise UsageError("nothing says which events", remedy="give --since, --delivery or --repo")
    if model is None and against is not None:
        raise UsageError("--against has nothing to compare with", remedy="give --model as well")
    if model is not None and post:
        raise UsageError("two models are compared without posting", remedy="leave out --post, or --model")
    sides = [] if model is None else [_weights(settings, model), _weights(settings, against)]
    if sides and sides[0][1].digest == sides[1][1].digest:
        raise UsageError(
            f"both are the same model, digest {sides[0][1].digest[:12]}", remedy="name other weights by --against"
        )
    since_ms = 0 if since is None else int((time.time() - seconds(since)) * 1000)
    pasts, before = asyncio.run(_find(settings, since_ms, delivery, repo))
    pasts = pasts[-limit:] if limit else pasts
    if not pasts:
        console.note(f"no event matches; the log keeps {settings.stream.retention_h:g} h")
    elif dry_run:
        _list(console, pasts)
    elif sides:
        _compare(console, settings, pasts, sides, timeout)
        return
    elif post:
        asyncio.run(_post(settings, pasts))
        _list(console, pasts)
        console.note(f"{len(pasts)} put back to be reviewed anew; `sentinelctl topics lag` shows them worked off")
    else:
        _rehearse(console, settings, pasts, before, timeout)
        return
    if console.is_json:
        document = [_named(past) for past in pasts]
        console.document({"version": 1, "is_posted": post and not dry_run, "is_dry_run": dry_run, "replayed": document})
    if dry_run and pasts:
        raise typer.Exit(Exit.CHANGES_PENDING)


async def _find(
    settings: "Settings", since_ms: int, delivery: str | None, repo: str | None
) -> "tuple[list[Past], dict[Unit, ReviewReady]]":
    from sentinelctl.log.past import past_events, said_before
    from sentinelctl.log.reading import looking

    async with looking(settings) as admin:
        pasts = await past_events(admin, since_ms=since_ms, delivery_id=delivery, repo=repo)
        return pasts, await said_before(admin)


async def _post(settings: "Settings", pasts: "Sequence[Past]") -> None:
    import time

    from sentinelctl.errors import SentinelError
    from sentinelctl.log.past import anew
    from services.errors import BusUnavailable
    from services.stream import open_producer

    producer = open_producer(settings.stream, settings.stream_path)
    try:
        await producer.append([anew(past, now_ns=time.time_ns()) for past in pasts])
    except BusUnavailable as exc:
        raise SentinelError(f"the log took nothing: {exc}", remedy="`sentinelctl doctor` looks at it") from exc
    finally:
        await producer.close()


def _rehearse(
    console: "Console",
    settings: "Settings",
    pasts: "Sequence[Past]",
    before: "Mapping[Unit, ReviewReady]",
    timeout_s: float,
) -> None:
    from collections import Counter

    from sentinelctl.errors import Exit
    from sentinelctl.log.past import unit
    from sentinelctl.log.rehearsal import UNFINISHED, rehearse

    console.note(f"{len(pasts)} events through the present model; nothing is posted")

    def tell(said: "Said") -> None:
        if not console.is_json:
            console.out.print(_shown(said, before.get(unit(said.past.event))))

    answers = rehearse(settings, pasts, timeout_s=timeout_s, tell=tell)
    counts = Counter(said.outcome for said in answers)
    console.note(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) + "; nothing was posted")
    if console.is_json:
        replayed = [{**said.document(), "before": _before(before.get(unit(said.past.event)))} for said in answers]
        console.document({"version": 1, "is_posted": False, "is_dry_run": False, "replayed": replayed})
    if counts[UNFINISHED]:
        raise typer.Exit(Exit.UNHEALTHY)


def _weights(settings: "Settings", folder: Path | None) -> "tuple[Path, ModelInfo]":
    """A folder of weights as the inference server will load it, the present one by default."""
    from model.engine import WEIGHTS, ModelError, load_engine
    from sentinelctl.errors import SentinelError

    present = Path(settings.inference.weights).expanduser() if settings.inference.weights else WEIGHTS
    found = (folder or present).resolve()
    try:
        return found, load_engine(settings.inference.engine, found).info
    except ModelError as exc:
        raise SentinelError(str(exc)) from exc


def _compare(
    console: "Console",
    settings: "Settings",
    pasts: "Sequence[Past]",
    sides: "Sequence[tuple[Path, ModelInfo]]",
    timeout_s: float,
) -> None:
    from sentinelctl.errors import Exit
    from sentinelctl.log.comparison import compare, shown, summary, totals
    from sentinelctl.log.past import unit
    from sentinelctl.log.rehearsal import UNFINISHED, rehearse

    for side, (folder, info) in zip("AB", sides, strict=True):
        console.note(f"{side} is {info.name} {info.version}, digest {info.digest[:12]}, of {folder}")
    console.note(f"{len(pasts)} events through both; nothing is posted")
    answers = []
    for side, (folder, _) in zip("AB", sides, strict=True):
        own = settings.inference.model_copy(update={"weights": str(folder)})
        told = rehearse(
            settings.model_copy(update={"inference": own}), pasts, timeout_s=timeout_s, tell=lambda _said: None
        )
        console.note(f"{side} has read them")
        answers.append({unit(said.past.event): said for said in told})
    of_a, of_b = answers
    compared = [compare(of_a[unit(past.event)], of_b[unit(past.event)]) for past in pasts]
    found = totals(compared)
    if console.is_json:
        models = {
            side: {"weights": str(folder), "name": info.name, "version": info.version, "digest": info.digest}
            for side, (folder, info) in zip("ab", sides, strict=True)
        }
        document = {"models": models, "totals": found, "compared": [one.document() for one in compared]}
        console.document({"version": 1, "is_posted": False, "is_dry_run": False, **document})
    else:
        for one in compared:
            console.out.print(shown(one))
    console.note(f"{summary(found)}; nothing was posted")
    if any(UNFINISHED in (one.a.outcome, one.b.outcome) for one in compared):
        raise typer.Exit(Exit.UNHEALTHY)


def _shown(said: "Said", before: "ReviewReady | None") -> "RenderableType":
    """A header line with what the log says of then, and the gravest findings below it."""
    from rich.console import Group
    from rich.text import Text

    from sentinelctl.console import clean
    from sentinelctl.demo.show import listed, shown
    from sentinelctl.log.headline import about, plural

    head = Text(about(said.past.event), "cyan")
    if said.review is None:
        style = "yellow" if said.reason else ""
        return head.append(f"  {said.outcome}: {clean(said.reason)}", style)
    coverage = said.review.coverage
    findings = shown(said.document()["findings"])
    head.append(f"  {coverage.hunks_reviewed} of {plural(coverage.hunks, 'hunk')}, ", "default")
    head.append(plural(len(findings), "finding"), "bold")
    if before is not None:
        model = f"by {before.model.digest[:12]}" if before.model.digest != said.review.model.digest else "by this model"
        head.append(f"; then {_count(before)}, {model}", "dim")
    return Group(head, listed(findings)) if findings else head


def _before(review: "ReviewReady | None") -> dict[str, Any] | None:
    return None if review is None else {"findings": _count(review), "model_digest": review.model.digest}


def _count(review: "ReviewReady") -> int:
    return sum(one.is_shown for one in review.findings) + review.findings_cut


def _list(console: "Console", pasts: "Sequence[Past]") -> None:
    from sentinelctl.log.headline import about

    for past in pasts:
        console.note(f"{about(past.event)}  {past.delivery_id}")


def _named(past: "Past") -> dict[str, Any]:
    event = past.event
    number = event.pull_request.number if event.HasField("pull_request") else None
    return {
        "delivery_id": past.delivery_id,
        "repository": event.repository.full_name,
        "pull": number,
        "sha": event.push.after if number is None else event.pull_request.head_sha,
        "revision": event.revision + 1,
    }
