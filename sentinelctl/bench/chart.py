"""Small line charts as SVG: what the report needs and no more. Pure; the same figures give the same bytes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 44, 48
_COLOURS: Final = ("#1f6feb", "#d1570a", "#1a7f37", "#8250df", "#bf3989", "#57606a")
_FONT: Final = "font-family='system-ui, sans-serif' font-size='12' fill='#24292f'"
_TICKS: Final = 5

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axis:
    """ticks: (value, label) of each, made where there are none. A logarithmic axis takes nothing at or below 0."""

    label: str
    is_log: bool = False
    ticks: tuple[tuple[float, str], ...] = ()
    from_zero: bool = True


def lines(title: str, series: Mapping[str, Points], x: Axis, y: Axis) -> str:
    """One line for each of the series, with a mark at each point where there are few."""
    every = [point for points in series.values() for point in points]
    across = _Scale(x, [point[0] for point in every], _LEFT, WIDTH - _RIGHT)
    up = _Scale(y, [point[1] for point in every], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' role='img'>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        f"<text x='{_LEFT}' y='22' {_FONT} font-weight='600'>{escape(title)}</text>",
    ]
    for value, label in up.ticks():
        parts += [
            f"<path d='M{_LEFT} {up(value):.1f}H{WIDTH - _RIGHT}' stroke='#d0d7de'/>",
            f"<text x='{_LEFT - 8}' y='{up(value) + 4:.1f}' {_FONT} text-anchor='end'>{label}</text>",
        ]
    for value, label in across.ticks():
        parts += [
            f"<path d='M{across(value):.1f} {HEIGHT - _BOTTOM}v5' stroke='#57606a'/>",
            f"<text x='{across(value):.1f}' y='{HEIGHT - _BOTTOM + 18}' {_FONT} text-anchor='middle'>{label}</text>",
        ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts += [
        f"<text x='{middle}' y='{HEIGHT - 10}' {_FONT} text-anchor='middle'>{escape(x.label)}</text>",
        f"<text x='{_LEFT}' y='38' {_FONT} fill-opacity='0.7'>{escape(y.label)}</text>",
    ]
    for number, (label, points) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        path = "L".join(f"{across(a):.1f} {up(b):.1f}" for a, b in points)
        parts.append(f"<path d='M{path}' fill='none' stroke='{colour}' stroke-width='2'/>")
        if len(points) <= 12:
            parts += [f"<circle cx='{across(a):.1f}' cy='{up(b):.1f}' r='3' fill='{colour}'/>" for a, b in points]
        height = _TOP + 12 + 20 * number
        at = WIDTH - _RIGHT + 16
        parts += [
            f"<path d='M{at} {height - 4}h14' stroke='{colour}' stroke-width='3'/>",
            f"<text x='{at + 20}' y='{height}' {_FONT}>{escape(label)}</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])


class _Scale:
    """Values of an axis to places between `low` and `high`."""

    def __init__(self, axis: Axis, values: Sequence[float], low: float, high: float) -> None:
        self._axis, self._low, self._high = axis, low, high
        known = [*values, *(value for value, _ in axis.ticks)]
        if axis.is_log:
            known = [value for value in known if value > 0]
        least, most = (min(known), max(known)) if known else (0.0, 1.0)
        if axis.is_log and not axis.ticks:
            least, most = 10.0 ** math.floor(math.log10(least)), 10.0 ** math.ceil(math.log10(most * 1.001))
        elif not axis.is_log:
            least = min(0.0, least) if axis.from_zero else least
            most = most if most > least else least + 1.0
        self._least, self._most = least, most

    def __call__(self, value: float) -> float:
        place, least, most = value, self._least, self._most
        if self._axis.is_log:
            place, least, most = (math.log10(max(each, 1e-12)) for each in (value, least, most))
        share = (place - least) / (most - least) if most > least else 0.5
        return self._low + min(1.0, max(0.0, share)) * (self._high - self._low)

    def ticks(self) -> list[tuple[float, str]]:
        if self._axis.ticks:
            return list(self._axis.ticks)
        if self._axis.is_log:
            first, last = round(math.log10(self._least)), round(math.log10(self._most))
            return [(10.0**power, _label(10.0**power)) for power in range(first, last + 1)]
        step = _step((self._most - self._least) / _TICKS)
        first = math.ceil(self._least / step)
        return [(step * at, _label(step * at)) for at in range(first, math.floor(self._most / step + 1e-9) + 1)]


def _step(wanted: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    power: float = 10.0 ** math.floor(math.log10(wanted))
    return next(power * of for of in (1.0, 2.0, 5.0, 10.0) if power * of >= wanted * 0.999)


def _label(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.3g}"
