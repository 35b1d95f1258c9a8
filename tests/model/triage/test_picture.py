import xml.etree.ElementTree as ET

from model.triage.picture import picture

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawn: str) -> list[str]:
    return [each.text or "" for each in ET.fromstring(drawn).iter(f"{SVG}text")]


def test_every_count_stands_in_the_table_the_fullest_category_first() -> None:
    drawn = texts(picture({("bug", "logic"): 1200, ("nit", "style"): 3, ("bug", "error_handling"): 7}, "comments"))
    assert drawn[:5] == ["comments", "critical", "bug", "suggestion", "nit"]
    assert drawn[5:] == [
        *("logic", "1,200", "1,200", "error handling", "7", "7", "style", "3", "3"),
        *("all", "0", "1,207", "0", "3"),
    ]


def test_a_title_is_text_and_no_comments_draw_an_empty_table() -> None:
    drawn = picture({}, 'a<b>&"c')
    assert texts(drawn) == ['a<b>&"c', "critical", "bug", "suggestion", "nit", "all", "0", "0", "0", "0"]
