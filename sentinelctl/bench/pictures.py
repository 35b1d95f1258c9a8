"""The report's charts, each from the stored results it shows. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sentinelctl.bench.chart import Axis, Points, lines
from sentinelctl.bench.histogram import Histogram

Document = Mapping[str, Any]


def pictures(documents: Mapping[str, Document]) -> dict[str, str]:
    """SVG by name, of whatever was measured."""
    made = {name: make(documents) for name, make in _PICTURES.items()}
    return {name: svg for name, svg in made.items() if svg}


def _steps_picture(documents: Mapping[str, Document]) -> str:
    of = documents.get("webhook-steps", {})
    if not of.get("runs"):
        return ""
    segments = of["runs"][0]["segments"]
    series = {
        name: [(part["rate"], part["latency_ms"][name]) for part in segments] for name in ("p50", "p99", "p99.9", "max")
    }
    x, y = Axis("pushes a second"), Axis("milliseconds from the time due", is_log=True)
    return lines("Latency of the receiver as its load grows", series, x, y)


_PERCENTILE_TICKS: Final = tuple((1 / (1 - q / 100), f"{q:g} %") for q in (50, 90, 99, 99.9))


def _latency_picture(documents: Mapping[str, Document]) -> str:
    labels = {
        "pipeline-limits-on": "1/s, limits on",
        "pipeline-limits-off": "1/s, off",
        "pipeline-limits-off-5": "5/s, off",
    }
    series = dict(_curves(documents, labels))
    x = Axis("percentile of deliveries", is_log=True, ticks=_PERCENTILE_TICKS)
    return (
        lines("Webhook to visible review, GitHub answering in 300 ms", series, x, Axis("milliseconds"))
        if series
        else ""
    )


def _curves(documents: Mapping[str, Document], labels: Mapping[str, str]) -> Iterator[tuple[str, Points]]:
    for name, label in labels.items():
        if runs := documents.get(name, {}).get("runs"):
            curve = Histogram(runs[0]["histogram"]).curve()
            yield label, [(1 / (1 - percentile / 100), ms) for percentile, ms in curve]


def _by(
    documents: Mapping[str, Document], start: str, x: Callable[[Document], float], y: Callable[[Document], float]
) -> Points:
    found = [of for name, of in documents.items() if name.startswith(start) and _has_answers(of)]
    return sorted((float(x(of)), float(y(of))) for of in found)


def _each(*values: int) -> tuple[tuple[float, str], ...]:
    return tuple((float(value), f"{value:,}") for value in values)


def _has_answers(of: Document) -> bool:
    return bool(of.get("figures", {}).get("rate"))


def _replicas_picture(documents: Mapping[str, Document]) -> str:
    points = _by(
        documents, "drain-replicas-", lambda of: of["target"]["replicas"]["extractor"], lambda of: of["figures"]["rate"]
    )
    axes = Axis("extractor replicas", is_log=True, ticks=_each(1, 2, 4, 8)), Axis("reviews a second")
    return lines("A backlog of 1,000 events, 48 repositories", {"reviews/s": points}, *axes) if points else ""


def _files_picture(documents: Mapping[str, Document]) -> str:
    def files(of: Document) -> float:
        return float(of["target"]["files"])

    whole = _by(documents, "pipeline-files-", files, lambda of: of["figures"]["latency_ms"]["p50"] / 1000)
    github = _by(documents, "pipeline-files-", files, lambda of: of["runs"][0]["stages_ms"]["github"]["p50"] / 1000)
    axes = (
        Axis("files of the pull request", is_log=True, ticks=_each(10, 100, 1000, 3000)),
        Axis("seconds", is_log=True),
    )
    return lines("Time to a review", {"webhook to review": whole, "waiting for GitHub": github}, *axes) if whole else ""


def _memory_picture(documents: Mapping[str, Document]) -> str:
    runs = documents.get("pipeline-soak", {}).get("runs")
    if not runs:
        return ""
    memory = runs[0]["memory"]
    minutes = [at_s / 60 for at_s in memory["at_s"]]
    series = {service: list(zip(minutes, mb, strict=True)) for service, mb in memory["mb"].items()}
    return lines("Resident memory over the soak", series, Axis("minutes"), Axis("megabytes"))


_PICTURES: Final[Mapping[str, Callable[[Mapping[str, Document]], str]]] = {
    "webhook-steps": _steps_picture,
    "pipeline-latency": _latency_picture,
    "drain-replicas": _replicas_picture,
    "pipeline-files": _files_picture,
    "memory": _memory_picture,
}
