"""What a run leaves to read: journal.json, summary.md, and report.html, whose pictures are inline SVG."""

import json
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from sentinelctl.chaos.run import Result
from sentinelctl.chaos.verdict import Observed, Sample
from sentinelctl.ledger import ENDINGS

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 260, 48, 16, 34, 30
_TICKS: Final = 4
_COLOURS: Final = {"open": "#c2410c", "lag": "#1d4ed8", "rate": "#94a3b8"}
_VERDICTS: Final = {"passed": "#15803d", "deviated": "#b91c1c", "failed": "#b91c1c", "inconclusive": "#a16207"}
_COLUMNS: Final = (
    "experiment", "verdict", "seed", "sent", "acknowledged", "lost", "duplicates", "stale", "unexplained_dead_letters",
    "in_flight", "recover_s", "drain_s",
)  # fmt: skip
_STYLE: Final = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #0f172a }
h1 { font-size: 1.5rem }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .3rem; border-top: 1px solid #e2e8f0; padding-top: 1rem }
table { border-collapse: collapse; font-size: 13px; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: right; font-weight: 500; color: #64748b; border-bottom: 1px solid #cbd5e1; padding: 2px 6px }
td { text-align: right; padding: 2px 6px } td:first-child, th:first-child { text-align: left }
.verdict { font-weight: 600 } p { margin: .2rem 0 } .dim { color: #64748b } svg { width: 100%; height: auto }
"""


def write(folder: Path, results: Sequence[Result]) -> None:
    """Whole after each experiment, so that an interrupted run leaves what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = {"version": 1, "experiments": [one.journal() for one in results]}
    (folder / "journal.json").write_text(json.dumps(journal, indent=1) + "\n", encoding="utf-8")
    (folder / "summary.md").write_text(markdown(results), encoding="utf-8")
    (folder / "report.html").write_text(page(results), encoding="utf-8")


def markdown(results: Sequence[Result]) -> str:
    rows = [[str(about[name]) for name in _COLUMNS] for about in (one.summary() for one in results)]
    lines = [[name.replace("_", " ") for name in _COLUMNS], ["---"] * len(_COLUMNS), *rows]
    parts = ["# Chaos", _headline(results), "\n".join(f"| {' | '.join(cells)} |" for cells in lines)]
    for one in results:
        about = one.summary()
        parts.append(f"## {about['experiment']}: {about['verdict']}")
        parts.append("\n".join(f"- {line}" for line in _lines(one)))
    return "\n\n".join(parts) + "\n"


def page(results: Sequence[Result]) -> str:
    heads = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in _COLUMNS)
    rows = "".join(f"<tr>{''.join(_cell(name, one.summary()[name]) for name in _COLUMNS)}</tr>" for one in results)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Chaos</title><style>{_STYLE}</style>\n'
        f"<h1>Chaos</h1><p>{escape(_headline(results))}</p>\n"
        f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>\n"
        f"{''.join(_section(one) for one in results)}</html>\n"
    )


def _headline(results: Sequence[Result]) -> str:
    verdicts = [one.verdict.value for one in results]
    counts = ", ".join(f"{verdicts.count(name)} {name}" for name in _VERDICTS if name in verdicts)
    if not results:
        return "Nothing ran."
    many = "1 experiment" if len(results) == 1 else f"{len(results)} experiments"
    return f"{many} on the {results[0].runtime} runtime, each under load: {counts}."


def _cell(name: str, value: object) -> str:
    style = f' class="verdict" style="color:{_VERDICTS[str(value)]}"' if name == "verdict" else ""
    return f"<td{style}>{escape(str(value))}</td>"


def _lines(one: Result) -> list[str]:
    """What a person wants to know of one run, a sentence each."""
    about, endings = one.summary(), one.summary()["endings"]
    acknowledged = " + ".join(f"{endings.get(name, 0)} {name}" for name in ENDINGS)
    wrong = (
        f"duplicate visible reviews {about['duplicates']}, posts of an overtaken head {about['stale']}, unexplained "
        f"dead letters {about['unexplained_dead_letters']}, under way during the fault {about['in_flight']}"
    )
    return [
        f"{about['fault']}; load {about['rate']:g}/s for {about['duration_s']:g} s, seed {about['seed']}",
        f"seen at its target: {about['seen'] or 'nothing'}",
        f"{about['acknowledged']} acknowledged = {acknowledged}; lost {about['lost']}; {about['attempts']} attempts",
        wrong,
        f"recovered {about['recover_s']:.1f} s after the fault, drained {about['drain_s']:.1f} s after fault and load",
        *(f"why not passed: {reason}" for reason in about["reasons"]),
    ]


def _section(one: Result) -> str:
    about = one.summary()
    colour = _VERDICTS[about["verdict"]]
    lines = "".join(f"<p>{escape(line)}</p>" for line in _lines(one))
    title = f'{escape(about["experiment"])} <span style="color:{colour}">{about["verdict"]}</span>'
    return f"<h2>{title}</h2>{lines}{timeline(one.observed)}\n"


def timeline(observed: Observed) -> str:
    """Load, backlog and lag over the seconds of the run, with the fault's window and the recovery."""
    samples = observed.samples
    if not samples:
        return ""
    start = samples[0].at
    span = max(1.0, samples[-1].at - start)
    rates = _rates(samples)
    backlog = [max(0, open_) for open_ in _open(observed, samples)]
    lags = [one.lag for one in samples]
    most = _TICKS * -(-max(_TICKS, *backlog, *(lag or 0 for lag in lags)) // _TICKS)
    fastest = 1.5 * max(1.0, *rates)  # room above it
    inner = _WIDTH - _LEFT - _RIGHT

    def x(at: float) -> float:
        return _LEFT + (at - start) / span * inner

    def y(value: float, of: float) -> float:
        return _TOP + (1 - value / of) * (_HEIGHT - _TOP - _BOTTOM)

    at = [one.at for one in samples]
    head = (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="load, backlog and lag over time" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    parts = [head]
    if observed.fault_from:
        left, right = x(observed.fault_from), x(observed.fault_to)
        parts += [_band(left, right, "#fee2e2"), _text((left + right) / 2, _TOP + 12, "fault", "#b91c1c", "middle")]
        if observed.recover_s:
            end = x(observed.fault_to + observed.recover_s)
            side, gap = ("end", -4) if end > _WIDTH * 0.8 else ("start", 4)
            parts.append(_band(right, end, "#fef9c3"))
            parts.append(_text(end + gap, _TOP + 12, f"recovered, {observed.recover_s:.1f} s", "#a16207", side))
    for tick in range(_TICKS + 1):
        value = most * tick / _TICKS
        parts.append(_line([(_LEFT, y(value, most)), (_WIDTH - _RIGHT, y(value, most))], "#e2e8f0"))
        parts.append(_text(_LEFT - 6, y(value, most) + 4, f"{value:g}", "#64748b", "end"))
    for second in _seconds(span):
        parts.append(_text(x(start + second), _HEIGHT - 10, f"{second} s", "#64748b", "middle"))
    points = [(x(when), y(rate, fastest)) for when, rate in zip(at, rates, strict=True)]
    floor = f"{_WIDTH - _RIGHT:.1f},{y(0, 1):.1f} {_LEFT},{y(0, 1):.1f}"
    parts.append(f'<polygon points="{_joined(points)} {floor}" fill="{_COLOURS["rate"]}" fill-opacity=".25"/>')
    parts += [_line([(x(when), y(value, most)) for when, value in zip(at, backlog, strict=True)], _COLOURS["open"])]
    for piece in _pieces([(x(when), lag) for when, lag in zip(at, lags, strict=True)]):
        parts.append(_line([(across, y(lag, most)) for across, lag in piece], _COLOURS["lag"]))
    legend = (
        (f"acknowledged a second (most {max(rates):.1f})", _COLOURS["rate"]),
        ("acknowledged, not ended", _COLOURS["open"]),
        ("records not committed (lag)", _COLOURS["lag"]),
    )
    across = float(_LEFT)
    for text, colour in legend:
        parts.append(f'<rect x="{across}" y="8" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(across + 14, 17, text, "#0f172a", "start"))
        across += 220
    return "".join([*parts, "</svg>"])


def _rates(samples: Sequence[Sample], over_s: float = 4.0) -> list[float]:
    """Acknowledged a second, over the last seconds of each sample."""
    found, first = [], 0
    for one in samples:
        while one.at - samples[first].at > over_s:
            first += 1
        seconds = max(over_s, one.at - samples[first].at)
        found.append((one.acknowledged - samples[first].acknowledged) / seconds)
    return found


def _open(observed: Observed, samples: Sequence[Sample]) -> list[int]:
    """Acknowledged by then, and ended later or never."""
    taken = sorted(one.acknowledged_at_ns / 1e9 for one in observed.sent if one.acknowledged_at_ns)
    ended = sorted(at_ns / 1e9 for at_ns in observed.account.ended_at_ns.values())
    return [sum(at <= one.at for at in taken) - sum(at <= one.at for at in ended) for one in samples]


def _pieces(points: Sequence[tuple[float, Any]]) -> list[list[tuple[float, float]]]:
    """Cut where there was nothing to read."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for across, value in points:
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((across, float(value)))
    return [piece for piece in pieces if len(piece) > 1]


def _seconds(span: float) -> range:
    step = next((step for step in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if span / step <= 12), 1200)
    return range(0, int(span) + 1, step)


def _band(left: float, right: float, colour: str) -> str:
    height = _HEIGHT - _TOP - _BOTTOM
    return f'<rect x="{left:.1f}" y="{_TOP}" width="{max(1.0, right - left):.1f}" height="{height}" fill="{colour}"/>'


def _line(points: Sequence[tuple[float, float]], colour: str) -> str:
    return f'<polyline points="{_joined(points)}" fill="none" stroke="{colour}" stroke-width="1.6"/>'


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{across:.1f},{down:.1f}" for across, down in points)


def _text(across: float, down: float, text: str, colour: str, anchor: str) -> str:
    where = f'x="{across:.1f}" y="{down:.1f}"'
    return f'<text {where} fill="{colour}" text-anchor="{anchor}">{escape(text)}</text>'
