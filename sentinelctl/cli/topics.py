"""sentinelctl topics: what the log holds, how far its readers are, and its records as they come."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from sentinelctl.console import Console
    from sentinelctl.log.reading import Kept
    from services.settings import Settings
    from services.stream.types import Record

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at the log: topics, lag, records.")

Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="push-events, diff-chunks, reviews or reviews-dlq.")]


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """List the topics, their records and readers."""
    asyncio.run(_list(ctx.obj.console, ctx.obj.settings()))


@app.command("describe")
def describe(ctx: typer.Context, topic: Topic) -> None:
    """Show one topic, partition by partition."""
    asyncio.run(_describe(ctx.obj.console, ctx.obj.settings(), topic))


@app.command("lag")
def lag(
    ctx: typer.Context,
    topic: Annotated[str | None, typer.Argument(metavar="[TOPIC]", help="Default: all that a group reads.")] = None,
) -> None:
    """Show what each group has yet to read."""
    asyncio.run(_lag(ctx.obj.console, ctx.obj.settings(), topic))


@app.command("tail")
def tail(
    ctx: typer.Context,
    topic: Topic,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    since: Annotated[
        str | None, typer.Option(metavar="SPAN", help="All of the last 90s, 15m, 2h or 1d, instead of --lines.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="Newest records.")] = 10,
) -> None:
    """Print records, the newest last.

    One a line; with -v with their content below, with --json one JSON object a line. Those of diff-chunks hold code.
    """
    from sentinelctl.duration import seconds

    span_s = None if since is None else seconds(since)
    asyncio.run(_tail(ctx.obj.console, ctx.obj.settings(), topic, follow, span_s, lines))


async def _list(console: "Console", settings: "Settings") -> None:
    from rich.table import Table

    from sentinelctl.log.reading import group_lags, kept, looking
    from services.contract import Topic

    rows: list[dict[str, Any]] = []
    async with looking(settings) as admin:
        there = await admin.topics()
        lags = {one.topic: one for one in await group_lags(admin, there)}
        for topic in (one.value for one in Topic):
            spans = await kept(admin, topic) if topic in there else []
            lag = lags.get(topic)
            rows.append(
                {
                    "topic": topic,
                    "partitions": there.get(topic, 0),
                    "records": sum(one.records for one in spans),
                    "group": lag.group if lag else None,
                    "lag": lag.records if lag else None,
                    "age_s": lag.age_s if lag else None,
                }
            )
    if console.is_json:
        console.document({"version": 1, "kind": settings.stream.kind, "topics": rows})
        return
    table = Table("topic", box=None, header_style="dim", pad_edge=False)
    for name in ("partitions", "records", "lag"):
        table.add_column(name, justify="right")
    table.add_column("read by")
    for row in rows:
        numbers = [str(row[name]) if row[name] is not None else "–" for name in ("partitions", "records", "lag")]
        table.add_row(row["topic"], *numbers, row["group"] or "people: sentinelctl dlq")
    console.out.print(table)
    if missing := [row["topic"] for row in rows if not row["partitions"]]:
        console.note(f"not in the log: {', '.join(missing)}; `sentinelctl up` creates what is missing")
    console.note(f"records are kept for {settings.stream.retention_h:g} h, in {_place(settings)}")


async def _describe(console: "Console", settings: "Settings", topic: str) -> None:
    from rich.table import Table

    from sentinelctl.duration import age
    from sentinelctl.log.reading import kept, looking
    from services.contract import READERS, Topic

    async with looking(settings) as admin:
        spans = await kept(admin, topic)
        group = READERS.get(Topic(topic)) if topic in tuple(Topic) else None
        lags = {one.position: one for one in await admin.lag(group, topic)} if group else {}
    rows = [_partition(span, lags.get(span.position)) for span in spans]
    if console.is_json:
        console.document({"version": 1, "topic": topic, "group": group, "partitions": rows})
        return
    table = Table(box=None, header_style="dim", pad_edge=False)
    for name in ("partition", "start", "end", "records", "committed", "lag", "waiting for"):
        table.add_column(name, justify="right")
    for row in rows:
        waiting = age(row["age_s"]) if row["lag"] else "–"
        numbers = [row[name] for name in ("partition", "start", "end", "records", "committed", "lag")]
        table.add_row(*("–" if number is None else str(number) for number in numbers), waiting)
    console.out.print(table)
    console.note(f"committed by the group {group}" if group else "read by no group: `sentinelctl dlq` is its reader")


def _partition(span: "Kept", lag: Any) -> dict[str, Any]:
    return {
        "partition": span.position.partition,
        "start": span.start,
        "end": span.end,
        "records": span.records,
        "committed": lag.committed if lag else None,
        "lag": lag.records if lag else None,
        "age_s": round(lag.age_s, 3) if lag else None,
    }


async def _lag(console: "Console", settings: "Settings", topic: str | None) -> None:
    from dataclasses import asdict

    from rich.table import Table

    from sentinelctl.duration import age
    from sentinelctl.log.reading import group_lags, looking, partitions

    async with looking(settings) as admin:
        if topic is not None:
            await partitions(admin, topic)
        found = await group_lags(admin, await admin.topics() if topic is None else [topic])
    if console.is_json:
        console.document({"version": 1, "lag": [asdict(one) for one in found]})
        return
    table = Table("group", "topic", box=None, header_style="dim", pad_edge=False)
    for name in ("lag", "waiting for"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(one.group, one.topic, str(one.records), age(one.age_s) if one.records else "–")
    console.out.print(table)


async def _tail(
    console: "Console", settings: "Settings", topic: str, follow: bool, span_s: float | None, lines: int
) -> None:
    import time

    from sentinelctl.log.reading import following, kept, last, looking, since

    async with looking(settings) as admin:
        ends = {one.position: one.end for one in await kept(admin, topic)}
        if span_s is None:
            records = await last(admin, topic, lines)
        else:
            records = await since(admin, topic, int((time.time() - span_s) * 1000))
        records = [one for one in records if one.offset < ends[one.position]]  # the others are what follows
        for record in records:
            _print(console, record)
        if follow:
            async for new in following(admin, ends):
                for record in new:
                    _print(console, record)
        elif not records:
            console.note(f"no record of {topic} is kept" if span_s is None else f"none of {topic} is that new")


def _print(console: "Console", record: "Record") -> None:
    from sentinelctl.log.reading import document

    if console.is_json:
        console.document(document(record))
        return
    console.out.print(_line(record))
    if console.is_verbose:
        import json

        from sentinelctl.console import clean

        for line in json.dumps(document(record), indent=2, ensure_ascii=False).splitlines():
            console.out.print(f"  {clean(line)}", markup=False, style="dim")


def _line(record: "Record") -> "Text":
    from datetime import datetime

    from rich.text import Text

    from sentinelctl.console import clean
    from sentinelctl.log.headline import headline
    from services.contract import Header

    moment = datetime.fromtimestamp(record.timestamp_ms / 1000).astimezone()
    delivery = clean(record.headers.get(Header.DELIVERY_ID, b"").decode(errors="replace"))
    return Text.assemble(
        (f"{moment:%m-%d %H:%M:%S} ", "dim"),
        (f"{record.partition:>2}:{record.offset:<5} ", "cyan"),
        headline(record),
        (f"  {delivery}", "dim"),
    )


def _place(settings: "Settings") -> str:
    return str(settings.stream_path) if settings.stream.kind != "kafka" else settings.stream.kind
