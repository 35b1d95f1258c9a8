import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from services.publisher.markdown import clip, code, escape, prose

COMMONMARK = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("`*_[]()<>!#@|~$&\\-+=.:/ \n\t1aAgGhHwW\u202e\x1b\0\"'"), st.characters(codec="utf-8")
    ),
    max_size=60,
)


def shown(markdown: str) -> list[tuple[str, str]]:
    """(kind, content) of every inline piece but line breaks, and of every block that is no plain paragraph."""
    pieces = []
    for block in COMMONMARK.parse(markdown):
        if block.type not in ("paragraph_open", "paragraph_close", "inline"):
            pieces.append((block.type, block.content))
        pieces += [(piece.type, piece.content) for piece in block.children or []]
    return pieces


def without_gaps(text: str) -> str:
    return text.replace("\u200b", "")


@given(HOSTILE)
@example("<!-- sentinel:review v1 key=pr:1:1:a:0 -->")
@example("1) - > # === --- ***")
@example("&lt;b&gt; \\<b>")
def test_escaped_text_renders_as_itself_and_nothing_else(text: str):
    rendered = shown(escape(text))
    assert {kind for kind, _ in rendered} <= {"text", "text_special"}
    visible = without_gaps("".join(content for _, content in rendered))
    cleaned = "".join(" " if c.isspace() else c for c in text)
    assert "".join(visible.split()) == "".join(c for c in cleaned if c.isprintable() and not c.isspace())


@given(HOSTILE)
@example("@octocat, see #1, GH-2, o/r#3, https://evil.example and www.evil.example")
def test_no_mention_reference_address_or_html_survives(text: str):
    for markdown in (escape(text), prose(text)):
        outside_code = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", markdown, flags=re.DOTALL)
        assert not re.search(r"@\w|#\w|\bgh-\d|://|www\.", outside_code, re.IGNORECASE)
        assert "<" not in outside_code
        assert "<!--" not in markdown


@given(st.text(alphabet=st.sampled_from("` <!-&\\@") | st.characters(codec="utf-8"), min_size=1))
@example("`")
@example("``a`")
@example(" a ")
@example("<!-- x -->")
def test_a_code_span_holds_any_text(text: str):
    ((kind, content),) = shown(f"x{code(text)}y")[1:-1]
    assert kind == "code_inline"
    assert content.replace("<\u200b!", "<!") == "".join(c if c.isprintable() else "\ufffd" for c in text)
    assert "<!--" not in code(text)


def test_prose_keeps_its_paragraphs_and_its_code():
    text = "Use `x is None`, not `x == None`:\nit is faster.\n\n  It cannot be overloaded. \n\n\n- no list"
    assert prose(text) == "Use `x is None`, not `x == None`: it is faster.\n\nIt cannot be overloaded.\n\n\\- no list"


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("comparison to None with ==", "comparison to None with =="),
        ("error_handling", "error\\_handling"),
        ("a\x1b[31mred", "a\\[31mred"),
        ("1. first", "1\\. first"),
        ("12 of 45", "12 of 45"),
        ("a\u202eb", "ab"),
    ],
)
def test_ordinary_text_stays_readable(text: str, markdown: str):
    assert escape(text) == markdown


def test_clipping_says_so():
    assert (clip("abc", 3), clip("abcd", 3)) == ("abc", "ab…")
