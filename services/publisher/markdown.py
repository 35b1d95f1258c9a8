"""Untrusted text as GitHub Markdown that renders as the text it is: no markup, HTML, mention, reference or link."""

import re

_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_CODE = re.compile(r"`([^`\n]+)`")
# GitHub links mentions, issues and addresses after rendering, where no escape is left: only a character between helps.
_GAP = "\u200b"


def escape(text: str) -> str:
    """One line of text. Control and direction characters are dropped; white space becomes single spaces."""
    line = " ".join("".join(" " if c.isspace() else c if c.isprintable() else "" for c in text).split())
    line = re.sub(r"[\\`*_\[\]{}|~$]", r"\\\g<0>", line)
    line = re.sub(r"[<>&]", lambda found: _ENTITIES[found[0]], line)
    line = re.sub(r"[@#]|://|(?i:www(?=\.)|\bgh(?=-\d))", _parted, line)
    return re.sub(r"^(?:[-+=]|\d+(?=[.)](?: |$)))", _not_a_list, line)


def prose(text: str) -> str:
    """Paragraphs of text, kept apart by blank lines; `code` in backticks stays code."""
    paragraphs = (paragraph.strip() for paragraph in re.split(r"\n\s*\n", text))
    return "\n\n".join(filter(None, map(_with_code, paragraphs)))


def code(text: str) -> str:
    """A code span, safe for any text; what cannot be seen becomes U+FFFD."""
    visible = "".join(c if c.isprintable() else "\ufffd" for c in text).replace("<!", f"<{_GAP}!") or " "
    fence = "`" * (max(map(len, re.findall("`+", visible)), default=0) + 1)
    is_padded = "`" in (visible[0], visible[-1]) or (visible[0] == visible[-1] == " " and bool(visible.strip()))
    pad = " " if is_padded else ""
    return f"{fence}{pad}{visible}{pad}{fence}"


def clip(text: str, max_chars: int) -> str:
    return text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"


def _with_code(paragraph: str) -> str:
    parts = _CODE.split(paragraph)
    rendered = [code(part) if i % 2 else _keeping_ends(part) for i, part in enumerate(parts)]
    return "".join(rendered).strip()


def _keeping_ends(part: str) -> str:
    """`escape` trims; between two code spans the spaces at the ends are wanted."""
    inner = escape(part)
    if not inner:
        return " " if part else ""
    return f"{' ' if part[0].isspace() else ''}{inner}{' ' if part[-1].isspace() else ''}"


def _parted(found: re.Match[str]) -> str:
    return f":{_GAP}//" if found[0] == "://" else f"{found[0]}{_GAP}"


def _not_a_list(found: re.Match[str]) -> str:
    return f"{found[0]}\\" if found[0].isdigit() else f"\\{found[0]}"
