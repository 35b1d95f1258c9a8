"""Held-out figures as one page that needs no network: tables, and two pictures that also lie beside it as SVG. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import numpy as np

from model.curves import INTERVALS, SUBJECTS, Curves, Judged, Table
from model.labels import CATEGORIES, SEVERITIES, Concept

TITLES: Final = {
    "line_ap": "suggestion or worse, line AP",
    "any_ap": "any finding, AP",
    "any_auc": "any finding, AUC",
    "five_way_macro_f1": "severity or none, macro-F1",
    "bug_recall_at_p50": "recall of bugs at precision .5",
    "critical_recall_at_p50": "recall of criticals at precision .5",
    "severity_accuracy": "given a finding: severity accuracy",
    "severity_balanced_accuracy": "given a finding: severity balanced",
    "category_macro_f1": "given a finding: category macro-F1",
    "concept_macro_f1": "given a finding: concept macro-F1",
    "ece": "calibration error (lower is better)",
}
APART: Final = {  # of lines that are no even sample of commits
    ("with_grave", "bug_recall_at_p50"): "recall of bugs, with commits searched for them",
    ("with_grave", "critical_recall_at_p50"): "recall of criticals, with commits searched for them",
    ("injected", "line_auc"): "faults put in, line AUC",
    ("injected", "category_macro_f1"): "faults put in, category macro-F1",
    ("injected_taught", "line_auc"): "the same of templates that were taught, line AUC",
    ("injected_taught", "category_macro_f1"): "the same of templates that were taught, category macro-F1",
    ("fixes", "auc"): "before a fix or after it, AUC",
}
# What was asked of the model before its first training, by the titles above; None: the linear baseline's figure.
BARS: Final[dict[str, float | None]] = {
    TITLES["any_ap"]: 0.89,
    TITLES["five_way_macro_f1"]: None,
    TITLES["bug_recall_at_p50"]: 0.70,
    TITLES["critical_recall_at_p50"]: 0.40,
    TITLES["severity_accuracy"]: 0.94,
    TITLES["severity_balanced_accuracy"]: 0.80,
    TITLES["category_macro_f1"]: 0.86,
    TITLES["concept_macro_f1"]: 0.75,
    TITLES["ece"]: 0.05,
    APART["injected", "line_auc"]: 0.80,
    APART["injected", "category_macro_f1"]: 0.70,
    APART["fixes", "auc"]: None,
}
NAMES: Final = {"model": "model", "linear": "linear n-grams", "size_only": "size only", "majority": "majority"}
_COLOURS: Final = {"model": "#0b62c4", "linear": "#c2410c", "size_only": "#6b7280", "majority": "#a8a29e"}
_WIDTH, _HEIGHT, _LEFT, _TOP, _SIDE = 420, 330, 52, 30, 250  # of a picture and its square plot, in pixels
_PAIRS: Final = 25  # confused concepts listed
_MEANING: Final = (
    "A line's label is what static analyzers say of it, so these figures measure how well their rules are recognised "
    "in the diff alone, not a reviewer's judgement. In brackets, the middle 95 % when the repositories are drawn anew."
)
_APART: Final = (
    "None of these lines were drawn evenly from commits, so they say how much is found and not how often it occurs. "
    "Both recalls are at precision .5. A fault that was put in counts where the analyzers see it."
)
_PICTURES: Final = (
    "Left: on the diagonal, a line said with confidence p is right p of the time. Right: answering only the surest "
    "lines, how many of the answers are wrong. Both over lines with a confidence of at least .1."
)
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1c1917;background:#fff}
h1{font-size:1.5rem;margin-bottom:0}h2{font-size:1.15rem;margin:2.2rem 0 .4rem}p{max-width:46rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;margin:.4rem 0;font-size:.88rem}
th{font-weight:600;text-align:right;color:#57534e;padding:.15rem .6rem}td{text-align:right;padding:.15rem .6rem}
th:first-child,td:first-child{text-align:left}tr{border-bottom:1px solid #e7e5e4}.best{font-weight:700}
small{color:#78716c;font-weight:400;white-space:nowrap}.wide{overflow-x:auto}.pictures{display:flex;flex-wrap:wrap;gap:1rem}
.matrix{font-size:.8rem}.matrix td{border:1px solid #fff}.matrix th{font-weight:400}
.matrix td,.matrix th{padding:.15rem .35rem}figure{margin:0}
"""


def write(judged: Judged, manifest: dict[str, Any], folder: Path) -> Path:
    """Writes report.html, calibration.svg, risk-coverage.svg and figures.json into `folder`; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    calibration, risk = calibration_picture(judged.curves), risk_picture(judged.curves)
    (folder / "calibration.svg").write_text(calibration + "\n", "utf-8")
    (folder / "risk-coverage.svg").write_text(risk + "\n", "utf-8")
    document = {"version": 1, "digest": manifest["digest"], "heldout": judged.figures, "curves": plain(judged)}
    (folder / "figures.json").write_text(json.dumps(document, allow_nan=False) + "\n", "utf-8")
    page = folder / "report.html"
    page.write_text(html(judged, manifest, (calibration, risk)), "utf-8")
    return page


def plain(judged: Judged) -> dict[str, Any]:
    """The curves and matrices of each subject, for JSON; rows are the truth, columns the answer."""
    classes = {
        "severity": ["none", *SEVERITIES],
        "category": ["none", *CATEGORIES],
        "concept": ["none", *(concept.id for concept in judged.concepts)],
    }
    subjects = {
        name: {
            "severity": curves.severity.tolist(),
            "category": curves.category.tolist(),
            "concept": curves.concept.tolist(),
            "reliability": [list(each) for each in curves.reliability],
            "risk_coverage": [list(each) for each in curves.risk],
        }
        for name, curves in judged.curves.items()
    }
    return {"classes": classes, **subjects}


def html(judged: Judged, manifest: dict[str, Any], pictures: Iterable[str]) -> str:
    """The whole page."""
    figures, own = judged.figures, judged.curves["model"]
    title = f"{manifest['name']} {manifest['version']}, held out"
    asked = (
        f"weights {manifest['digest'][:12]} · data {figures['data_digest'][:12]} · {figures['model']['lines']:,} added "
        f"lines of {len(figures['repositories'])} repositories never trained on: {', '.join(figures['repositories'])}"
    )
    parts = [
        f"<h1>{escape(title)}</h1><p>{escape(asked)}</p><p>{_MEANING}</p>",
        f"<h2>Figures</h2>{_figures(figures)}",
        f"<h2>Asked apart</h2><p>{_APART}</p>{_apart(figures)}",
        f"<h2>How sure, and how right</h2><p>{_PICTURES}</p>",
        f'<div class="pictures">{"".join(f"<figure>{picture}</figure>" for picture in pictures)}</div>',
        f"<h2>What is shown to users</h2>{_shown(figures['model']['shown'])}",
        f"<h2>Languages</h2>{_languages(figures)}",
    ]
    for name in SUBJECTS:
        parts += [
            f"<h2>Severity, end to end: {NAMES[name]}</h2>",
            matrix(judged.curves[name].severity, ["none", *SEVERITIES]),
        ]
    for name in SUBJECTS[:2]:
        parts += [
            f"<h2>Category, end to end: {NAMES[name]}</h2>",
            matrix(judged.curves[name].category, ["none", *CATEGORIES]),
        ]
    parts += ["<h2>Concepts</h2>", _concepts(own.concept, judged.curves["linear"].concept, judged.concepts)]
    parts += ["<h2>Most often confused</h2>", _confused(own.concept, judged.concepts)]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """The held-out figures of a manifest: the model's flat, then `baselines`, `intervals` and `bars`; {} without."""
    heldout = document.get("heldout") or {}
    if not heldout:
        return {}
    own = heldout["model"]
    return {
        **{name: value for name, value in own.items() if not isinstance(value, dict | list)},
        "baselines": {name: heldout[name] for name in SUBJECTS[1:]},
        "intervals": own.get("intervals") or {"line_ap": own["line_ap_95"]},
        "bars": {title: {"asked": asked, "is_met": is_met} for title, (asked, is_met) in bars(heldout).items()},
    }


def bars(heldout: Mapping[str, Any]) -> dict[str, tuple[float, bool]]:
    """Title to (what was asked, whether the model has it); a figure that could not be told is left out."""
    rows = {title: {name: heldout[name].get(key) for name in SUBJECTS} for key, title in TITLES.items()}
    found = {}
    for title, values in (rows | apart(heldout)).items():
        asked = BARS[title] if BARS.get(title) is not None else values["linear"]
        if title in BARS and asked is not None and values["model"] is not None:
            is_met = values["model"] <= asked if title == TITLES["ece"] else values["model"] >= asked
            found[title] = (asked, is_met)
    return found


def number(value: float | None, form: str = ".3f") -> str:
    """A figure that could not be told, for want of lines, is a dash."""
    return "–" if value is None else format(value, form)


def _figures(figures: dict[str, Any]) -> str:
    rows = []
    for key, title in TITLES.items():
        values = {name: figures[name][key] for name in SUBJECTS}
        known = [value for value in values.values() if value is not None]
        best = (min if key == "ece" else max)(known) if len(set(known)) > 1 else None
        cells = []
        for name, value in values.items():
            low, high = figures[name]["intervals"].get(key, (None, None))
            around = f" <small>({number(low)}–{number(high)})</small>" if key in INTERVALS else ""
            mark = ' class="best"' if value is not None and value == best else ""
            cells.append(f"<td{mark}>{number(value)}{around}</td>")
        rows.append(f"<tr><td>{escape(title)}</td>{''.join(cells)}</tr>")
    return _table(["", *NAMES.values()], rows)


def apart(figures: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Title to the figure of each subject; None where it has none."""
    return {
        title: {name: figures[name].get(draw, {}).get(key) for name in SUBJECTS} for (draw, key), title in APART.items()
    }


def _apart(figures: Mapping[str, Any]) -> str:
    rows = [
        f"<tr><td>{escape(title)}</td>{''.join(f'<td>{number(value)}</td>' for value in values.values())}</tr>"
        for title, values in apart(figures).items()
    ]
    return _table(["", *NAMES.values()], rows)


def _shown(shown: dict[str, Any]) -> str:
    return _table(
        ["severity", "lines shown", "right", "of all found"],
        [
            f"<tr><td>{name}</td><td>{each['lines']:,}</td><td>{number(each['precision'], '.0%')}</td>"
            f"<td>{number(each['recall'], '.0%')}</td></tr>"
            for name, each in shown.items()
        ],
    )


def _languages(figures: dict[str, Any]) -> str:
    spoken = figures["model"]["per_language"]
    rows = [
        f"<tr><td>{escape(language)}</td><td>{each['lines']:,}</td><td>{number(each['prevalence'])}</td>"
        + "".join(f"<td>{number(figures[name]['per_language'][language]['line_ap'])}</td>" for name in SUBJECTS)
        + "</tr>"
        for language, each in sorted(spoken.items(), key=lambda item: -item[1]["lines"])
    ]
    return _table(["line AP", "lines", "suggestion or worse", *NAMES.values()], rows)


def matrix(table: Table, names: Sequence[str]) -> str:
    """Lines by truth (row) and answer (column), each cell tinted by its share of the row."""
    rows = []
    for name, counts in zip(names, table, strict=True):
        total = int(counts.sum())
        cells = "".join(
            f'<td style="background:rgba(11,98,196,{count / total * 0.55 if total else 0:.3f})">{count:,}</td>'
            for count in counts
        )
        rows.append(f"<tr><td>{escape(name.replace('_', ' '))}</td>{cells}<td><small>{total:,}</small></td></tr>")
    headers = ["truth ↓ answer →", *names, "lines"]
    return _table(headers, rows, kind="matrix")


def _concepts(own: Table, linear: Table, concepts: Sequence[Concept]) -> str:
    rows = []
    for column in sorted(range(1, len(own)), key=lambda at: -int(own[at].sum())):
        there, said = int(own[column].sum()), int(own[:, column].sum())
        if there or said:
            right, f1 = int(own[column, column]), [_f1(table, column) for table in (own, linear)]
            rows.append(
                f"<tr><td>{escape(concepts[column - 1].id)}</td><td>{concepts[column - 1].severity}</td>"
                f"<td>{there:,}</td><td>{said:,}</td><td>{number(right / said if said else None, '.2f')}</td>"
                f"<td>{number(right / there if there else None, '.2f')}</td>"
                f"<td>{number(f1[0], '.2f')}</td><td>{number(f1[1], '.2f')}</td></tr>"
            )
    headers = ["end to end", "severity", "lines", "said", "precision", "recall", "F1", "F1 of linear n-grams"]
    return _table(headers, rows)


def _f1(table: Table, column: int) -> float | None:
    both = int(table[column].sum() + table[:, column].sum())
    return 2 * int(table[column, column]) / both if both else None


def _confused(table: Table, concepts: Sequence[Concept]) -> str:
    names = ["none", *(concept.id for concept in concepts)]
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [divmod(int(at), len(names)) for at in order if wrong.flat[at]]
    rows = [
        f"<tr><td>{escape(names[truth])}</td><td>{escape(names[answer])}</td><td>{wrong[truth, answer]:,}</td></tr>"
        for truth, answer in pairs
    ]
    return _table(["truth", "answer", "lines"], rows)


def _table(headers: Sequence[str], rows: Iterable[str], kind: str = "") -> str:
    head = "".join(f"<th>{escape(each.replace('_', ' '))}</th>" for each in headers)
    opening = f'<div class="wide"><table class="{kind}">' if kind else '<div class="wide"><table>'
    return f"{opening}<tr>{head}</tr>{''.join(rows)}</table></div>"


# Pictures: a square plot from 0 to 1 on both axes, a line a subject.


def calibration_picture(curves: dict[str, Curves]) -> str:
    """Share right by mean confidence; a dot's area is the lines it stands for."""
    series = {name: [(sure, right) for sure, right, _ in each.reliability] for name, each in curves.items()}
    dots = "".join(
        f'<circle cx="{_x(sure):.1f}" cy="{_y(right):.1f}" r="{1.5 + 5 * (lines / _most(each)) ** 0.5:.1f}" '
        f'fill="{_COLOURS[name]}" fill-opacity=".55"/>'
        for name, each in curves.items()
        for sure, right, lines in each.reliability
    )
    diagonal = f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="#a8a29e" stroke-dasharray="4 4"/>'
    return _picture("Calibration", "confidence", "share right", series, diagonal, dots)


def risk_picture(curves: dict[str, Curves]) -> str:
    """Share wrong by share answered, surest lines first."""
    series = {name: list(each.risk) for name, each in curves.items()}
    points = "".join(
        f'<circle cx="{_x(each[0][0]):.1f}" cy="{_y(each[0][1]):.1f}" r="4" fill="{_COLOURS[name]}"/>'
        for name, each in series.items()
        if len(each) == 1  # always equally sure: a point, where a line would show nothing
    )
    return _picture("Risk and coverage", "share answered", "share wrong", series, "", points)


def loss_picture(points: Sequence[tuple[int, float]]) -> str:
    """The training loss by step, its axis from 0 to the largest; an empty frame without a point."""
    last, most = max((step for step, _ in points), default=1), max((loss for _, loss in points), default=1) or 1
    every = max(1, len(points) // 400)
    line = [(step / last, loss / most) for step, loss in points[::every]]
    return _picture("Training loss", "step", "loss", {"model": line}, "", "", last, most)


def _most(curves: Curves) -> int:
    return max(lines for _, _, lines in curves.reliability)


def _picture(
    title: str,
    across: str,
    up: str,
    series: dict[str, list[tuple[float, float]]],
    below: str,
    above: str,
    last: float = 1,
    most: float = 1,
) -> str:
    """`last` and `most`: what 1 on each axis stands for."""
    ticks = [0, 0.25, 0.5, 0.75, 1]
    grid = "".join(
        f'<path d="M{_x(at)} {_y(0)}V{_y(1)}M{_x(0)} {_y(at)}H{_x(1)}" stroke="#e7e5e4"/>'
        f'<text x="{_x(at)}" y="{_y(0) + 16}" text-anchor="middle">{at * last:.4g}</text>'
        f'<text x="{_x(0) - 8}" y="{_y(at) + 4}" text-anchor="end">{at * most:.3g}</text>'
        for at in ticks
    )
    lines = "".join(
        f'<polyline points="{" ".join(f"{_x(x):.1f},{_y(y):.1f}" for x, y in points)}" '
        f'stroke="{_COLOURS[name]}" stroke-width="2" fill="none"/>'
        for name, points in series.items()
        if points
    )
    legend = "".join(
        f'<rect x="{_x(1) + 14}" y="{_TOP + 20 * at}" width="10" height="10" fill="{_COLOURS[name]}"/>'
        f'<text x="{_x(1) + 29}" y="{_TOP + 20 * at + 9}">{NAMES[name]}</text>'
        for at, name in enumerate(name for name in SUBJECTS if series.get(name))
    )
    middle = _TOP + _SIDE / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui,sans-serif" font-size="11" fill="#44403c">'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f'<text x="{_LEFT}" y="16" font-size="13" font-weight="600">{escape(title)}</text>'
        f"{grid}{below}{lines}{above}{legend}"
        f'<text x="{_LEFT + _SIDE / 2}" y="{_y(0) + 36}" text-anchor="middle">{escape(across)}</text>'
        f'<text x="14" y="{middle}" text-anchor="middle" transform="rotate(-90 14 {middle})">{escape(up)}</text></svg>'
    )


def _x(value: float) -> float:
    return _LEFT + _SIDE * value


def _y(value: float) -> float:
    return _TOP + _SIDE * (1 - value)
