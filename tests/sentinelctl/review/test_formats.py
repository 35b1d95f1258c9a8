import json
from urllib.parse import unquote

import pytest

from model.labels import load_concepts
from sentinelctl.review.formats import annotations, document, sarif
from sentinelctl.review.text import lines, summary
from tests.sentinelctl.review.made import diff, reviewed

CONCEPT = load_concepts()[0].id
TWO = diff("one", f"x #! {CONCEPT} nit 0.75", "two", f"y #! {CONCEPT} critical 0.9", path="src/a.py", start=10)


def test_text_marks_the_line_and_ends_in_a_summary() -> None:
    assert [line.plain for line in lines(reviewed(TWO))] == [
        f"src/a.py:11 nit[{CONCEPT}] Title of {CONCEPT} (75%)",
        "  10 | + one",
        f"> 11 | + x #! {CONCEPT} nit 0.75",
        "  12 | + two",
        f"  13 | + y #! {CONCEPT} critical 0.9",
        "     = What it is: 100% wrong. Do better.",
        "",
        f"src/a.py:13 critical[{CONCEPT}] Title of {CONCEPT} (90%)",
        f"  11 | + x #! {CONCEPT} nit 0.75",
        "  12 | + two",
        f"> 13 | + y #! {CONCEPT} critical 0.9",
        "     = What it is: 100% wrong. Do better.",
        "",
        "2 findings (1 critical, 1 nit) in 1 of 1 hunk",
    ]


def test_text_of_a_diff_cannot_drive_the_terminal() -> None:
    result = reviewed(diff(f"\x1b[2J\x07\u202e\u2066\u200b #! {CONCEPT} bug 0.9", path="a\x1b.py"))
    shown = "\n".join(line.plain for line in lines(result))
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert "\\x1b[2J\\x07\\u202e\\u2066\\u200b" in shown


def test_the_summary_counts_what_was_not_shown_and_not_read() -> None:
    text = diff(f"x #! {CONCEPT} nit 0.9") + diff("x", path="yarn.lock") + diff("x", path="go.sum")
    assert (
        summary(reviewed(text, "bug")) == "no findings in 1 of 3 hunks; skipped: 2 lock; "
        "not shown: 1 nit (--min-severity nit shows all)"
    )


def test_the_document_has_its_version_and_every_count() -> None:
    made = json.loads(json.dumps(document(reviewed(TWO), "HEAD~1..HEAD")))
    assert (made["version"], made["change"], made["hunks"], made["hunks_reviewed"]) == (1, "HEAD~1..HEAD", 1, 1)
    assert made["model"]["digest"] == "d" * 64
    first = made["findings"][0]
    assert (first["path"], first["line"], first["severity"], first["confidence"]) == ("src/a.py", 11, "nit", 0.75)


def test_annotations_put_the_worst_first_and_escape_what_github_reads() -> None:
    text = diff(f"x #! {CONCEPT} nit 0.75", f"y #! {CONCEPT} bug 0.9", path="a,b%:c.py")
    worst, other = annotations(reviewed(text)).splitlines()
    assert worst == (
        f"::error file=a%2Cb%25%3Ac.py,line=2,title=bug%3A Title of {CONCEPT} (90%25)"
        f"::What it is: 100%25 wrong.%0ADo better. [{CONCEPT}]"
    )
    assert other.startswith("::notice file=")


def test_a_path_cannot_add_a_command_of_its_own() -> None:
    text = diff(f"x #! {CONCEPT} bug 0.9").replace("a.py", '"a\\n::stop-commands::x.py"')
    (line,) = annotations(reviewed(text)).splitlines()
    assert line.startswith("::error file=")


@pytest.mark.parametrize("path", ["src/a b.py", "a%20:b#?.py", "ü/\u202e.py"])
def test_sarif_is_whole_and_its_uris_are_encoded(path: str) -> None:
    made = json.loads(json.dumps(sarif(reviewed(TWO.replace("src/a.py", path)), load_concepts(), "0.1.0")))
    (run,) = made["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert made["version"] == "2.1.0"
    assert len(set(rules)) == len(rules)
    for result, level in zip(run["results"], ("note", "error"), strict=True):
        location = result["locations"][0]["physicalLocation"]
        uri = location["artifactLocation"]["uri"]
        assert uri.isascii()
        assert not set(uri) & set(" :#?")
        assert unquote(uri) == path
        assert location["region"] == {"startLine": 11 if level == "note" else 13}
        assert rules[result["ruleIndex"]] == result["ruleId"]
        assert (result["level"], 0 <= result["rank"] <= 100) == (level, True)
        assert set(result["partialFingerprints"]) == {"sentinelFinding/v1"}
