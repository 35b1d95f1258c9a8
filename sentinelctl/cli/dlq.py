"""sentinelctl dlq: records that were set aside; look at them, put them back, give them up."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from sentinelctl.console import Console
    from sentinelctl.log.letters import Letter
    from services.settings import Settings
    from services.stream.types import NewRecord

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at dead letters, put them back, or give up.")

_SHOWN_MESSAGE: Final = 300

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As dlq list shows them, such as 3:17.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason, such as attempts_exhausted.")]
FromTopic = Annotated[str | None, typer.Option("--topic", help="Only those from this topic, such as reviews.")]
All = Annotated[bool, typer.Option("--all", help="All that wait, where no ID and no filter says which.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which; exit 100 when there are any.")]
Oldest = Annotated[int | None, typer.Option(min=1, help="At most so many, the oldest first.")]


@app.command("list")
def list_(
    ctx: typer.Context,
    reason: Reason = None,
    topic: FromTopic = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many, the newest.")] = 50,
) -> None:
    """Show the dead letters that wait."""
    asyncio.run(_list(ctx.obj.console, ctx.obj.settings(), reason, topic, limit))


@app.command("show")
def show(ctx: typer.Context, id_: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Tell all of one dead letter.

    Why it is here, where its record was, and what that holds.
    """
    asyncio.run(_show(ctx.obj.console, ctx.obj.settings(), id_))


@app.command("retry")
def retry(
    ctx: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    topic: FromTopic = None,
    limit: Oldest = None,
    is_all: All = False,
    dry_run: DryRun = False,
) -> None:
    """Put records back where they came from.

    For when the cause is gone; nothing is posted twice by it. Try one first (--limit 1): where ten records in a row
    fail and none succeeds, their consumer halts.
    """
    from sentinelctl.log.letters import put_back

    asyncio.run(_settle(ctx, "retried", put_back, ids, reason, topic, limit, is_all, dry_run, lambda _letters: None))


@app.command("purge")
def purge(
    ctx: typer.Context,
    ids: Ids = None,
    reason: Reason = None,
    topic: FromTopic = None,
    limit: Oldest = None,
    is_all: All = False,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Give records up.

    They no longer wait, and leave the disk when their time in the log is over.
    """
    from sentinelctl.log.letters import settled

    def ask(letters: "Sequence[Letter]") -> None:
        import sys

        from sentinelctl.errors import UsageError

        if yes:
            return
        if ctx.obj.console.is_json or not sys.stdin.isatty():
            raise UsageError("purge gives records up and nobody can be asked", remedy="say --yes as well")
        for letter in letters:
            ctx.obj.console.note(_line(letter))
        typer.confirm(f"Give up {len(letters)}? Their reviews are never posted", abort=True, err=True)

    def give_up(letter: "Letter") -> "list[NewRecord]":
        return [settled(letter, "purged")]

    asyncio.run(_settle(ctx, "purged", give_up, ids, reason, topic, limit, is_all, dry_run, ask))


async def _list(console: "Console", settings: "Settings", reason: str | None, topic: str | None, limit: int) -> None:
    from collections import Counter

    from sentinelctl.log.letters import chosen, waiting
    from sentinelctl.log.reading import looking

    async with looking(settings) as admin:
        found = chosen(await waiting(admin), [], reason=reason, topic=topic, limit=None)
    reasons = Counter(one.content.reason for one in found)
    shown = found[-limit:]
    if console.is_json:
        console.document(
            {
                "version": 1,
                "waiting": len(found),
                "reasons": dict(reasons),
                "letters": [one.document() for one in shown],
            }
        )
        return
    if not found:
        console.note("no dead letter waits" + (" that matches" if reason or topic else ""))
        return
    for letter in shown:
        console.out.print(_entry(letter))
    counts = ", ".join(f"{count} {name}" for name, count in reasons.most_common())
    console.note(f"{len(found)} waiting: {counts}" + (f"; {limit} newest shown" if len(found) > limit else ""))
    console.note(_left(settings, found[0]))
    console.note("`sentinelctl dlq show ID` tells all of one, `retry` puts back what can succeed now, `purge` gives up")


async def _show(console: "Console", settings: "Settings", id_: str) -> None:
    import json

    from rich.text import Text

    from sentinelctl.console import clean
    from sentinelctl.log.letters import chosen, waiting
    from sentinelctl.log.reading import document, looking

    async with looking(settings) as admin:
        (letter,) = chosen(await waiting(admin), [id_], reason=None, topic=None, limit=None)
    whole = {**letter.document(), **{name: document(letter.record)[name] for name in ("key", "headers", "value")}}
    whole["value"] = whole["value"]["value"] if isinstance(whole["value"], dict) else whole["value"]
    if console.is_json:
        console.document({"version": 1, **whole})
        return
    content = letter.content
    for name, said in (
        ("reason", content.reason),
        ("message", content.message),
        ("attempts", str(content.attempts)),
        ("failed", f"first {_moment(content.first_failed_at_ns)}, last {_moment(content.last_failed_at_ns)}"),
        ("given up by", f"{content.group} {content.service_version}"),
        ("came from", f"{content.topic} {content.partition}:{content.offset}, appended {_appended(letter)}"),
        ("delivery", letter.delivery_id or "–"),
        ("key", whole["key"]),
    ):
        console.out.print(Text.assemble((f"{name:<12}", "dim"), clean(said)))
    console.out.print(Text("record", "dim"))
    for line in json.dumps(whole["value"], indent=2, ensure_ascii=False).splitlines():
        console.out.print(f"  {clean(line)}", markup=False)
    console.note(_left(settings, letter))
    console.note(f"once the cause is gone: `sentinelctl dlq retry {letter.id}`; to give it up: `… purge {letter.id}`")


async def _settle(
    ctx: typer.Context,
    action: str,
    records: "Callable[[Letter], list[NewRecord]]",
    ids: "Sequence[str] | None",
    reason: str | None,
    topic: str | None,
    limit: int | None,
    is_all: bool,
    is_dry_run: bool,
    ask: "Callable[[Sequence[Letter]], None]",
) -> None:
    """Letter by letter, so that what is done stays done when the log fails half-way."""
    from sentinelctl.errors import Exit, SentinelError, UsageError
    from sentinelctl.log.letters import chosen, waiting
    from sentinelctl.log.reading import looking
    from services.errors import BusUnavailable
    from services.stream import open_producer

    console: Console = ctx.obj.console
    settings: Settings = ctx.obj.settings()
    if not (ids or reason or topic or limit or is_all):
        raise UsageError("nothing says which dead letters", remedy="name IDs, --reason, --topic, --limit or --all")
    async with looking(settings) as admin:
        letters = chosen(await waiting(admin), ids or [], reason=reason, topic=topic, limit=limit)
    made = [(letter, records(letter)) for letter in letters]
    if is_dry_run or not letters:
        for letter in letters:
            console.note(_line(letter))
        console.note(f"{len(letters)} would be {action}" if letters else "no dead letter waits that matches")
    else:
        ask(letters)
        producer = open_producer(settings.stream, settings.stream_path)
        done = 0
        try:
            for _, new in made:
                await producer.append(new)
                done += 1
        except BusUnavailable as exc:
            raise SentinelError(
                f"{done} of {len(made)} were {action}, then: {exc}",
                remedy="say the same again when the log answers: what is done is not done twice",
            ) from exc
        finally:
            await producer.close()
        for letter in letters:
            console.note(_line(letter))
        console.note(f"{len(letters)} {action}")
        if action == "retried":
            console.note("`sentinelctl topics lag` shows them worked off; what fails again comes back to `dlq list`")
    if console.is_json:
        document = [one.document() for one in letters]
        console.document({"version": 1, "action": action, "is_dry_run": is_dry_run, "letters": document})
    if is_dry_run and letters:
        raise typer.Exit(Exit.CHANGES_PENDING)


def _entry(letter: "Letter") -> "Text":
    """Two lines: which it is and what it was about, then why it is here."""
    import time

    from rich.text import Text

    from sentinelctl.console import clean
    from sentinelctl.duration import age
    from sentinelctl.log.headline import plural

    content = letter.content
    message = " ".join(content.message.split())
    return Text.assemble(
        (f"{letter.id:<7}", "cyan"),
        (f"{age(time.time() - letter.record.timestamp_ms / 1000)} ago".ljust(12), "dim"),
        (clean(content.reason), "bold"),
        f" after {plural(content.attempts, 'attempt')}, {clean(content.topic)}: {_what(letter)}\n",
        (f"{'':<7}{clean(message if len(message) <= _SHOWN_MESSAGE else message[:_SHOWN_MESSAGE] + '…')}", "yellow"),
    )


def _line(letter: "Letter") -> str:
    from sentinelctl.console import clean

    return f"{letter.id:<7}{clean(letter.content.reason)}, {clean(letter.content.topic)}: {_what(letter)}"


def _what(letter: "Letter") -> str:
    """What the record in the letter was about."""
    from sentinelctl.log.headline import headline
    from services.stream.types import Record

    content = letter.content
    return headline(Record(content.topic, content.partition, content.offset, content.key, content.value, {}, 0))


def _left(settings: "Settings", oldest: "Letter") -> str:
    import time

    from sentinelctl.duration import age

    left_s = oldest.record.timestamp_ms / 1000 + settings.stream.retention_h * 3600 - time.time()
    return f"letters are kept for {settings.stream.retention_h:g} h; the oldest here goes in {age(left_s)}"


def _appended(letter: "Letter") -> str:
    return _moment(letter.content.timestamp_ms * 10**6)


def _moment(unix_ns: int) -> str:
    from datetime import datetime

    return f"{datetime.fromtimestamp(unix_ns / 1e9).astimezone():%Y-%m-%d %H:%M:%S}" if unix_ns else "unknown"
