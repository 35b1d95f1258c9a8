from xml.etree import ElementTree

import pytest

from sentinelctl.bench.chart import HEIGHT, WIDTH, Axis, lines

SVG = "{http://www.w3.org/2000/svg}"


def drawn(x: Axis, y: Axis, **series: list[tuple[float, float]]) -> ElementTree.Element:
    return ElementTree.fromstring(lines("A <title>", series, x, y))


def labels(svg: ElementTree.Element) -> list[str]:
    return [each.text or "" for each in svg.iter(f"{SVG}text")]


def circles(svg: ElementTree.Element) -> list[tuple[float, float]]:
    return [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in svg.iter(f"{SVG}circle")]


def test_values_stand_where_their_axis_says() -> None:
    svg = drawn(Axis("x"), Axis("y"), a=[(0, 0), (5, 50), (10, 100)])
    (x0, y0), (x1, y1), (x2, y2) = circles(svg)
    assert x0 < x1 < x2
    assert y0 > y1 > y2
    assert x1 == pytest.approx((x0 + x2) / 2, abs=0.1)
    assert y1 == pytest.approx((y0 + y2) / 2, abs=0.1)
    assert {"A <title>", "x", "y", "a", "100", "10"} <= set(labels(svg))


def test_a_logarithmic_axis_has_equal_steps_for_equal_factors() -> None:
    svg = drawn(Axis("x", is_log=True), Axis("y"), a=[(10, 1), (100, 1), (1000, 1)])
    first, second, third = (at for at, _ in circles(svg))
    assert second - first == pytest.approx(third - second, abs=0.2)
    assert {"10", "100", "1,000"} <= set(labels(svg))


@pytest.mark.parametrize("points", [[(1.0, 0.0)], [(1.0, 7.0), (1.0, 7.0)], [(0.0, 0.0), (3.0, 0.0)]])
def test_flat_and_single_values_stay_inside_the_picture(points: list[tuple[float, float]]) -> None:
    for at_x, at_y in circles(drawn(Axis("x"), Axis("y"), a=points)):
        assert 0 <= at_x <= WIDTH
        assert 0 <= at_y <= HEIGHT


def test_every_line_has_a_colour_and_a_name() -> None:
    svg = drawn(Axis("x"), Axis("y"), one=[(0, 1), (1, 2)], two=[(0, 2), (1, 3)])
    strokes = [each.attrib["stroke"] for each in svg.iter(f"{SVG}path") if each.attrib.get("fill") == "none"]
    assert len(set(strokes)) == 2
    assert {"one", "two"} <= set(labels(svg))
