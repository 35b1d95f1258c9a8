"""BENCHMARK.md from stored results: the command writes what lies between its marks, and keeps all else as it is.

A mark is `<!-- bench: NAME -->`, the end of what it begins `<!-- /bench -->`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sentinelctl.bench.pictures import pictures
from sentinelctl.bench.result import read
from sentinelctl.bench.suite import MEASUREMENTS
from sentinelctl.errors import UsageError
from sentinelctl.log.headline import plural

_BLOCK: Final = re.compile(r"(<!-- bench: ([a-z-]+) -->\n)(.*?)(<!-- /bench -->)", re.DOTALL)
_REFERENCE: Final = {5: (8, 15, 26), 50: (5, 19, 47)}
"""What the reference implementation says of itself at that many users: p50, p99, p99.9 in ms; no failure of 9,019."""

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Stored:
    """Results by name. `link`: of a stored file or a picture, as BENCHMARK.md has to write it."""

    documents: Mapping[str, Document]
    link: Callable[[str], str]

    def named(self, *names: str) -> list[tuple[str, Document]]:
        """In that order; one that is not there is a document that says so."""
        commands = {one.name: " ".join(["sentinelctl bench", *one.command()]) for one in MEASUREMENTS}
        nothing = {name: {"kind": "missing", "why": "not yet", "command": commands[name]} for name in names}
        return [(name, self.documents.get(name, nothing[name])) for name in names]

    def like(self, start: str) -> list[tuple[str, Document]]:
        """Of all measurements whose name begins so, in the suite's order."""
        return self.named(*(one.name for one in MEASUREMENTS if one.name.startswith(start)))


def load(folder: Path) -> dict[str, Document]:
    """Every stored result. Raises UsageError where there is none."""
    found: dict[str, Document] = {path.stem: read(path) for path in sorted(folder.glob("*.json"))}
    if not found:
        raise UsageError(f"no result is stored in {folder}", remedy=f"`sentinelctl bench all --out {folder}`")
    return found


def written(text: str, stored: Stored) -> tuple[str, list[str]]:
    """`text` with every block made anew, and the names of the blocks. Raises UsageError for a mark of no block."""
    seen: list[str] = []

    def replaced(found: re.Match[str]) -> str:
        name = found[2]
        if name not in BLOCKS:
            raise UsageError(f"no block is named {name!r}", remedy=f"there are {', '.join(BLOCKS)}")
        seen.append(name)
        return f"{found[1]}{BLOCKS[name](stored).strip()}\n{found[4]}"

    return _BLOCK.sub(replaced, text), seen


def _machine(stored: Stored) -> str:
    """Where, when and of what, once for all results of a machine."""
    places: dict[str, list[Document]] = {}
    for one in stored.documents.values():
        if "environment" in one:
            where = one["environment"]
            machine = f"{where['cores']} cores ({where['cpu']}), {where['memory_gb']:g} GB, {where['system']}"
            places.setdefault(f"{machine}, Python {where['python']}", []).append(one)
    said = []
    for place, results in places.items():
        every = [one["environment"] for one in results]
        revisions = dict.fromkeys(where["revision"] or where["sentinel"] for where in every)
        models = dict.fromkeys(_model(where["model"]) for where in every)
        loads = [where["load_1m"] for where in every]
        days = sorted({one["began_at"][:10] for one in results})
        when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        said.append(
            f"{plural(len(results), 'result')}, {when}, on {place}; revision {', '.join(revisions)}; model "
            f"{', '.join(models)}; load in the minute before each: {min(loads):g} to {max(loads):g}."
        )
    return "\n\n".join(said) or "Nothing is stored yet: `sentinelctl bench all`."


def _model(of: Mapping[str, str]) -> str:
    return f"{of['name']} {of['version']} ({of['digest'][:12]})" if "digest" in of else "none"


def _receiver(stored: Stored) -> str:
    def cells(of: Document) -> list[str]:
        figures, users = of["figures"], of["shape"]["users"]
        theirs = " / ".join(map(str, _REFERENCE[users])) if users in _REFERENCE else ""
        latency = [_ms(figures["latency_ms"][name]) for name in ("p50", "p99", "p99.9", "max")]
        failed = figures["errors"] + figures["dropped"]
        return [str(users), f"{figures['rate']:,.0f}", f"{failed} of {figures['sent']:,}", *latency, theirs]

    head = ("users", "pushes/s", "failures", "p50 ms", "p99", "p99.9", "max", "reference p50 / p99 / p99.9")
    table = _table(stored, head, stored.named("webhook-5-users", "webhook-50-users"), cells)
    steps = _picture(stored, "webhook-steps", "Latency of the receiver as its load grows")
    return f"{table}\n\n{_found(stored, 'webhook-max')}\n\n{steps}"


def _found(stored: Stored, start: str) -> str:
    """What searches for the highest rate found."""

    def cells(of: Document) -> list[str]:
        found = of["find_max"]
        best = ", ".join(f"{rate:,.1f}" if rate is not None else "none" for rate in found["rate"])
        latency = of["figures"]["latency_ms"] if "figures" in of else {}
        log, slo = of["target"].get("log", ""), " and ".join(found["slo"])
        return [log, f"`{slo}`", best, _ms(latency.get("p99")), _short("; ".join(found["limited_by"]))]

    head = ("log", "objective", "highest rate a second", "p99 ms there", "what fails 5 % above it")
    return _table(stored, head, stored.like(start), cells)


def _inference(stored: Stored) -> str:
    def cells(of: Document) -> list[str]:
        target, found, figures = of["target"], of["find_max"], of.get("figures")
        (rate, *_), run = found["rate"], (of["runs"] or [{}])[0]
        about = [target["engine"], f"{target['chunks_per_call']:g}"]
        if figures is None or rate is None:
            return [*about, "none", "", "", "", _short(found["limited_by"][0])]
        latency = figures["latency_ms"]
        chunks = f"{rate * target['chunks_per_call']:,.0f}"
        spread = f"{_ms(latency['p50'])} / {_ms(latency['p99'])}"
        return [*about, f"{rate:,.1f}", chunks, f"{run['mean_batch']:g}", spread, _short(found["limited_by"][0])]

    head = (
        "engine",
        "chunks a call",
        "calls/s",
        "chunks/s",
        "chunks a pass",
        "p50 / p99 ms",
        "what fails 5 % above it",
    )
    return _table(stored, head, stored.like("inference-"), cells)


def _pipeline(stored: Stored) -> str:
    def cells(of: Document) -> list[str]:
        figures, target = of["figures"], of["target"]
        latency = [_ms(figures["latency_ms"][name]) for name in ("p50", "p99", "max")]
        own = of["runs"][0]["stages_ms"].get("own", {})
        ended = f"{figures['lost']}, {figures['duplicates']}"
        return [
            target["forge_limits"],
            f"{figures['rate']:g}",
            f"{figures['sent']:,}",
            ended,
            *latency,
            _ms(own.get("p50")),
        ]

    names = ("pipeline-limits-on", "pipeline-limits-off", "pipeline-limits-off-5")
    head = ("forge limits", "deliveries/s", "deliveries", "lost, duplicates", "p50 ms", "p99", "max", "own p50 ms")
    parts = [_table(stored, head, stored.named(*names), cells)]
    if stages := stored.documents.get(names[0], {}).get("runs", [{}])[0].get("stages_ms"):
        rows = [[stage, *(_ms(of[name]) for name in ("p50", "p99", "max"))] for stage, of in stages.items()]
        parts.append(_markdown(("stage, limits on", "p50 ms", "p99", "max"), rows))
        parts.append(_picture(stored, "pipeline-latency", "Webhook to visible review, by percentile"))
    return "\n\n".join([*parts, _found(stored, "pipeline-max")])


def _growth(stored: Stored) -> str:
    def drained(of: Document) -> list[str]:
        figures, target = of["figures"], of["target"]
        memory = max((max(mb) for mb in figures["memory"]["mb"].values() if mb), default=0.0)
        about = [str(target["repositories"]), str(target["replicas"]["extractor"]), f"{figures['queued']:,}"]
        return [
            *about,
            f"{figures['rate']:,.1f}",
            f"{figures['lag_ms']:,.0f}",
            f"{figures['log_mb']:,.1f}",
            f"{memory:,.0f}",
        ]

    def opened(of: Document) -> list[str]:
        figures, stages = of["figures"], of["runs"][0]["stages_ms"]
        parts = [_ms(stages.get(stage, {}).get("p50")) for stage in ("github", "forward", "own")]
        latency = figures["latency_ms"]
        return [f"{of['target']['files']:,}", str(figures["sent"]), _ms(latency["p50"]), _ms(latency["max"]), *parts]

    head = ("repositories", "extractors", "queued", "reviews/s", "lag query ms", "log MB", "largest service MB")
    files = ("files of a pull request", "reviews", "p50 ms", "max", "GitHub p50", "forward pass p50", "own p50")
    charts = (("drain-replicas", "Reviews a second by extractors"), ("pipeline-files", "Time to a review by files"))
    return "\n\n".join(
        [
            _table(stored, head, stored.like("drain-"), drained),
            _table(stored, files, stored.like("pipeline-files-"), opened),
            *(_picture(stored, name, title) for name, title in charts),
        ]
    )


def _memory(stored: Stored) -> str:
    ((name, of),) = stored.named("pipeline-soak")
    if of["kind"] == "missing":
        return _missing(of)
    run = of["runs"][0]
    memory = run["memory"]
    rows = [
        [
            service,
            f"{mb[0]:,.0f}",
            f"{max(mb):,.0f}",
            f"{mb[-1]:,.0f}",
            f"{memory['growth_mb_per_h'].get(service, 0):+,.1f}",
        ]
        for service, mb in memory["mb"].items()
    ]
    table = _markdown(
        ("service", "MB at the start", "most", "at the end", "MB an hour, last quarter against the second"), rows
    )
    minutes = f"{of['shape']['duration_s'] / 60:g} minutes"
    said = f"{of['figures']['sent']:,} deliveries in {minutes}: {_source(stored, name, of)}"
    return f"{said}\n\n{table}\n\n{_picture(stored, 'memory', 'Resident memory over the soak')}"


def _ratio(stored: Stored) -> str:
    def cells(of: Document) -> list[str]:
        ratio = of["ratio"]
        spread = (
            f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})"
            if isinstance(ratio, dict)
            else f"{ratio:.2f}"
        )
        ours = of.get("receiver") or of.get("server") or of.get("detour") or {}
        rate = ours.get("requests_per_s") or ours.get("chunks_per_s")
        unit = "requests/s" if "requests_per_s" in ours else "chunks/s"
        seen = f"{rate['median']:,.0f} {unit}" if rate else f"{ours.get('p50_ms', 0):.1f} ms"
        p99 = ours["p99_ms"]["median"] if isinstance(ours.get("p99_ms"), dict) else None
        return [_OF_RATIO[of["kind"]], spread, seen, _ms(p99)]

    head = ("what", "ratio, median and range of the pairs", "ours", "p99 ms")
    return _table(stored, head, stored.like("ratio-"), cells)


_OF_RATIO: Final = {
    "ratio webhook": "requests a second of the receiver over its control's",
    "ratio inference": "chunks a second of the server over the engine's, called directly",
    "ratio detour": "time of the detour by `diff-chunks` over the direct call's",
}

BLOCKS: Final[Mapping[str, Callable[[Stored], str]]] = {
    "machine": _machine,
    "receiver": _receiver,
    "inference": _inference,
    "pipeline": _pipeline,
    "growth": _growth,
    "memory": _memory,
    "ratio": _ratio,
}


def _table(
    stored: Stored, head: Sequence[str], rows: Sequence[tuple[str, Document]], cells: Callable[[Document], list[str]]
) -> str:
    """One row a result, with its command; one that is missing says why, and one with faults which."""
    made = []
    if not any(name in stored.documents for name, _ in rows):
        return f"Not measured yet: `sentinelctl bench all --only {rows[0][0].partition('-')[0]}`"
    for name, of in rows:
        if of["kind"] == "missing":
            made.append([f"not measured: {of['why']}", *[""] * (len(head) - 1), f"`{of['command']}`"])
        else:
            made.append([*cells(of), _source(stored, name, of)])
    return _markdown((*head, "command"), made)


def _source(stored: Stored, name: str, of: Document) -> str:
    faults = f" **{_short('; '.join(of['faults']))}**" if of.get("faults") else ""
    return f"[`{of['command']}`]({stored.link(f'{name}.json')}){faults}"


def _missing(of: Document) -> str:
    return f"Not measured: {of['why']}. `{of['command']}`"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    every = (head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows))
    return "\n".join(f"| {' | '.join(row)} |" for row in every)


def _picture(stored: Stored, name: str, title: str) -> str:
    return f"![{title}]({stored.link(f'{name}.svg')})" if name in pictures(stored.documents) else ""


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _short(text: str, most: int = 120) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
