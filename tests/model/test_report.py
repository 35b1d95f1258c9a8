"""The page and its pictures, from answers made by hand; no torch."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from model.curves import INTERVALS, SUBJECTS, Curves, Grades, Judged
from model.labels import load_concepts
from model.report import (
    APART,
    BARS,
    NAMES,
    TITLES,
    bars,
    calibration_picture,
    html,
    loss_picture,
    matrix,
    risk_picture,
    summary,
    write,
)

CATALOG = {concept.id: concept for concept in load_concepts()}
CONCEPTS = tuple(CATALOG[name] for name in ("missing_docstring", "debug_print", "bare_except", "eval_exec"))
MANIFEST = {"name": "<b>tiny</b>", "version": "0", "digest": "d" * 64}


def curves(seed: int, sure: float | None = None) -> Curves:
    chance = np.random.default_rng(seed)
    labels, best = chance.integers(0, 5, 400), chance.integers(1, 5, 400)
    confidence = np.full(400, sure) if sure is not None else chance.random(400)
    return Curves.of(labels, best * (confidence > 0.5), best, confidence.astype(np.float32), Grades.of(CONCEPTS))


@pytest.fixture
def judged() -> Judged:
    figures: dict[str, Any] = {"repositories": ["a/<i>"], "data_digest": "e" * 64}
    for at, name in enumerate(SUBJECTS):
        figures[name] = {key: round(0.9 - at / 10 - row / 100, 3) for row, key in enumerate(TITLES)}
        figures[name] |= {
            "lines": 400,
            "intervals": {key: [0.111, 0.222] for key in INTERVALS},
            "per_language": {"python": {"lines": 400, "prevalence": 0.5, "line_ap": 0.777}},
        }
        figures[name] |= {draw: {} for draw, _ in APART}
        figures[name]["injected"] = {"line_auc": round(0.654 + at / 100, 3)}
    figures["majority"]["concept_macro_f1"] = None
    figures["model"]["shown"] = {"any": {"lines": 7, "precision": None, "recall": 0.25}}
    return Judged(figures, {name: curves(at) for at, name in enumerate(SUBJECTS)}, CONCEPTS)


class Cells(HTMLParser):
    """The text of each table row, and every tag that was opened and not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self._is_cell = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag in ("meta", "path", "rect", "circle", "polyline"):
            return
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        self._is_cell = tag in ("td", "th") or (self._is_cell and tag == "small")
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._is_cell = self._is_cell and tag == "small"

    def handle_data(self, data: str) -> None:
        if self._is_cell:
            self.rows[-1][-1] += data


def test_every_figure_stands_beside_that_of_each_baseline_with_its_interval(judged: Judged) -> None:
    page = Cells(html(judged, MANIFEST, []))
    assert page.open == []
    assert ["", *NAMES.values()] in page.rows
    for key, title in TITLES.items():
        (row,) = [row for row in page.rows if row[0] == title]
        for name, cell in zip(NAMES, row[1:], strict=True):
            value = judged.figures[name][key]
            assert cell.startswith("–" if value is None else f"{value:.3f}")
            assert ("(0.111–0.222)" in cell) == (key in INTERVALS)


def test_the_best_of_a_row_is_marked_and_the_least_error_is_best(judged: Judged) -> None:
    page = html(judged, MANIFEST, [])
    assert page.count('class="best"') == len(TITLES)
    assert f'<td class="best">{judged.figures["model"]["line_ap"]:.3f}' in page
    assert f'<td class="best">{judged.figures["majority"]["ece"]:.3f}' in page


def test_no_figure_is_best_where_all_are_alike(judged: Judged) -> None:
    for name in SUBJECTS:
        judged.figures[name]["critical_recall_at_p50"] = 0.0
    assert html(judged, MANIFEST, []).count('class="best"') == len(TITLES) - 1


def test_names_from_outside_are_text_on_the_page(judged: Judged) -> None:
    page = html(judged, MANIFEST, [])
    assert "a/&lt;i&gt;" in page
    assert "&lt;b&gt;tiny&lt;/b&gt;" in page
    assert "<b>" not in page


def test_what_could_not_be_told_is_a_dash(judged: Judged) -> None:
    assert ["any", "7", "–", "25%"] in Cells(html(judged, MANIFEST, [])).rows


def test_a_matrix_shows_every_count_and_the_lines_of_each_row() -> None:
    found = Cells(matrix(np.array([[1200, 3], [0, 0]]), ["none", "bug"])).rows
    assert found == [
        ["truth ↓ answer →", "none", "bug", "lines"],
        ["none", "1,200", "3", "1,203"],
        ["bug", "0", "0", "0"],
    ]


def test_the_concepts_are_listed_by_their_lines_and_the_confusions_by_their_number(judged: Judged) -> None:
    rows = Cells(html(judged, MANIFEST, [])).rows
    own = judged.curves["model"].concept
    listed = [int(row[2]) for row in rows if row[0] in CATALOG and row[1] in ("nit", "suggestion", "bug", "critical")]
    assert listed == sorted((int(own[at].sum()) for at in range(1, 5)), reverse=True)
    at = next(number for number, row in enumerate(rows) if row == ["truth", "answer", "lines"])
    confused = [int(row[2]) for row in rows[at + 1 :]]
    assert confused == sorted(confused, reverse=True)
    assert confused[0] == int((own - np.diag(np.diag(own))).max())


SPACE = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("draw", [calibration_picture, risk_picture])
def test_a_picture_is_an_svg_with_a_line_a_subject_inside_its_frame(draw: Any, judged: Judged) -> None:
    picture = ElementTree.fromstring(draw(judged.curves))
    assert picture.tag == f"{SPACE}svg"
    lines = picture.findall(f"{SPACE}polyline")
    assert len({line.attrib["stroke"] for line in lines}) == len(SUBJECTS)
    points = [tuple(map(float, point.split(","))) for line in lines for point in line.attrib["points"].split()]
    assert all(52 <= x <= 302.1 and 30 <= y <= 280 for x, y in points)
    assert [text.text for text in picture.findall(f"{SPACE}text")[-6:-2]] == list(NAMES.values())


def test_a_subject_that_is_always_equally_sure_is_a_dot_and_one_without_confidence_is_left_out() -> None:
    both = {"model": curves(1, sure=0.7), "majority": curves(2, sure=0.05)}
    picture = ElementTree.fromstring(risk_picture(both))
    assert len(picture.findall(f"{SPACE}circle")) == 1
    words = [text.text for text in picture.findall(f"{SPACE}text")]
    assert "model" in words
    assert "majority" not in words
    ElementTree.fromstring(calibration_picture(both))


def test_the_loss_is_drawn_by_step_on_axes_that_name_its_ends() -> None:
    picture = ElementTree.fromstring(loss_picture([(10, 4.0), (20, 2.0), (1000, 0.5)]))
    (line,) = picture.findall(f"{SPACE}polyline")
    assert [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()] == [
        (54.5, 30.0), (57.0, 155.0), (302.0, 248.8),
    ]  # fmt: skip
    assert {"1000", "4"} <= {text.text for text in picture.findall(f"{SPACE}text")}
    long = [(step, 1.0) for step in range(1, 100_000)]
    assert len(loss_picture(long)) < 20_000
    for points in ([], [(1, 0.0)]):
        ElementTree.fromstring(loss_picture(points))


def test_the_page_its_pictures_and_its_numbers_lie_in_one_folder(judged: Judged, tmp_path: Path) -> None:
    page = write(judged, MANIFEST, tmp_path / "out")
    names = {"calibration.svg", "figures.json", "report.html", "risk-coverage.svg"}
    assert {path.name for path in page.parent.iterdir()} == names
    for name in ("calibration.svg", "risk-coverage.svg"):
        picture = (page.parent / name).read_text("utf-8")
        ElementTree.fromstring(picture)
        assert picture.strip() in page.read_text("utf-8")
        assert len(picture) < 40_000
    assert "http" not in page.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")


def test_a_manifest_s_figures_are_summed_up_flat_with_baselines_and_intervals(judged: Judged) -> None:
    found = summary({"heldout": judged.figures})
    assert found["line_ap"] == judged.figures["model"]["line_ap"]
    assert set(found["baselines"]) == set(SUBJECTS[1:])
    assert found["intervals"]["ece"] == [0.111, 0.222]
    assert "per_language" not in found
    assert summary({}) == summary({"heldout": {}}) == {}
    old = {name: {"line_ap": 0.5} for name in SUBJECTS}
    old["model"]["line_ap_95"] = [0.4, 0.6]  # type: ignore[assignment]
    assert summary({"heldout": old})["intervals"] == {"line_ap": [0.4, 0.6]}


def test_what_was_asked_before_the_first_training_is_met_or_missed() -> None:
    figures = {"any_ap": 0.89, "bug_recall_at_p50": 0.69, "ece": 0.05, "five_way_macro_f1": 0.4, "line_ap": 0.1}
    heldout = {name: dict(figures) for name in SUBJECTS}
    heldout["linear"]["five_way_macro_f1"] = 0.5
    assert bars(heldout) == {
        TITLES["any_ap"]: (0.89, True),
        TITLES["bug_recall_at_p50"]: (0.70, False),
        TITLES["ece"]: (0.05, True),  # at most
        TITLES["five_way_macro_f1"]: (0.5, False),  # the linear baseline's
    }
    heldout["model"]["ece"] = 0.051
    assert bars(heldout)[TITLES["ece"]] == (0.05, False)
    assert set(BARS) <= {*TITLES.values(), *APART.values()}


def test_what_was_drawn_apart_has_a_table_of_its_own(judged: Judged) -> None:
    rows = {row[0]: row[1:] for row in Cells(html(judged, MANIFEST, [])).rows}
    assert rows["faults put in, line AUC"] == ["0.654", "0.664", "0.674", "0.684"]
    assert rows["before a fix or after it, AUC"] == ["–"] * 4
