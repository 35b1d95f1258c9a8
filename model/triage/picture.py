"""Counts of severity by category as one SVG that needs nothing else. Pure."""

from collections.abc import Mapping
from html import escape
from typing import Final

from model.labels import CATEGORIES, SEVERITIES

_LEFT, _TOP, _CELL, _ROW, _BARS = 118, 64, 82, 26, 150  # pixels; _BARS: of the longest bar
_TINTS: Final = {"critical": "#b91c1c", "bug": "#c2410c", "suggestion": "#0b62c4", "nit": "#6b7280"}
WORST_FIRST: Final = tuple(reversed(SEVERITIES))


def picture(counts: Mapping[tuple[str, str], int], title: str) -> str:
    """A table tinted by each severity's own largest count, and a bar for each category's comments."""
    there = [each for each in CATEGORIES if any(counts.get((severity, each)) for severity in SEVERITIES)]
    totals = {each: sum(counts.get((severity, each), 0) for severity in SEVERITIES) for each in there}
    order = sorted(there, key=lambda each: -totals[each])
    most = {one: max((counts.get((one, each), 0) for each in there), default=0) for one in SEVERITIES}
    bars_x = _LEFT + len(SEVERITIES) * _CELL + 16
    width, height = bars_x + _BARS + 56, _TOP + (len(order) + 1) * _ROW + 12
    parts = [
        f'<text x="{_LEFT + (at + 0.5) * _CELL:g}" y="{_TOP - 9}" text-anchor="middle" font-weight="600" '
        f'fill="{_TINTS[severity]}">{severity}</text>'
        for at, severity in enumerate(WORST_FIRST)
    ]
    for row, category in enumerate(order):
        y = _TOP + row * _ROW
        parts.append(f'<text x="{_LEFT - 10}" y="{y + 17}" text-anchor="end">{category.replace("_", " ")}</text>')
        for at, severity in enumerate(WORST_FIRST):
            count = counts.get((severity, category), 0)
            tint = 0.06 + 0.6 * count / most[severity] if count else 0
            x = _LEFT + at * _CELL
            parts.append(
                f'<rect x="{x}" y="{y}" width="{_CELL - 2}" height="{_ROW - 2}" fill="{_TINTS[severity]}" '
                f'fill-opacity="{tint:.3f}"/>'
            )
            if count:
                parts.append(f'<text x="{x + _CELL / 2 - 1:g}" y="{y + 17}" text-anchor="middle">{count:,}</text>')
        length = _BARS * totals[category] / max(totals.values())
        parts.append(f'<rect x="{bars_x}" y="{y + 5}" width="{length:.1f}" height="{_ROW - 12}" fill="#a8a29e"/>')
        parts.append(f'<text x="{bars_x + length + 6:.1f}" y="{y + 17}">{totals[category]:,}</text>')
    foot = _TOP + len(order) * _ROW
    parts.append(f'<path d="M{_LEFT} {foot}H{_LEFT + len(SEVERITIES) * _CELL - 2}" stroke="#a8a29e"/>')
    parts.append(f'<text x="{_LEFT - 10}" y="{foot + 19}" text-anchor="end" fill="#78716c">all</text>')
    for at, severity in enumerate(WORST_FIRST):
        total = sum(counts.get((severity, each), 0) for each in there)
        middle = _LEFT + (at + 0.5) * _CELL - 1
        parts.append(f'<text x="{middle:g}" y="{foot + 19}" text-anchor="middle" font-weight="600">{total:,}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="12" fill="#44403c">'
        f'<rect width="{width}" height="{height}" fill="#fff"/>'
        f'<text x="12" y="24" font-size="14" font-weight="600">{escape(title)}</text>{"".join(parts)}</svg>'
    )
