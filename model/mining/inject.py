"""Faults put among the lines that a commit added, for concepts that histories seldom show (injected.toml).

A fault is one line, after an added line that ends a statement and at its indentation, with names from around it.
Whether the analyzers see the fault there is asked of them, as for any line: one they do not see teaches nothing.
"""

import hashlib
import random
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from model.dataset import Split
from model.inputs.diff import FileDiff, Hunk, number_lines

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,24}")
_SLOT: Final = re.compile(r"\{([abc])\}")
_KEYWORDS: Final = """
    and assert async await break case catch char class const continue def default defer del delete done elif
    else enum esac except export extends false final finally float for foreach from func function global import
    include int interface lambda let local long new nil none not null package pass private protected public
    raise range readonly require return select self short signed sizeof static string struct super switch then
    this throw throws true try type typedef typeof union unset unsigned until use var void while with yield
"""
_WORDS: Final = frozenset(_KEYWORDS.split())
_ENDS: Final = {
    "python": re.compile(r"[\w)\]}\"']\s*$"),
    "shell": re.compile(r"[\w\"')}]\s*$"),
    "go": re.compile(r"[\w)\]}\"`]\s*$"),
}
_SEMICOLON: Final = re.compile(r";\s*$")
_OPENS: Final = re.compile(
    r"^\s*(if|for|while|else|elif|case|switch|try|with|def|class|func|return|break|continue|@|#|//|/?\*)"
)


@dataclass(frozen=True, slots=True)
class Fault:
    concept: str
    languages: tuple[str, ...]
    text: str

    @property
    def is_for_test(self) -> bool:
        """So that what is asked of test repositories was never taught."""
        return hashlib.sha256(self.text.encode()).hexdigest()[0] in "0123"


@dataclass(frozen=True, slots=True)
class Injected:
    """A file as it would be, its diff, and each fault's concept by its row in the new file."""

    diff: FileDiff
    text: str
    concepts: dict[int, str]


@cache
def load_faults() -> tuple[Fault, ...]:
    raw = tomllib.loads(Path(__file__).with_name("injected.toml").read_text("utf-8"))
    return tuple(
        Fault(each["concept"], tuple(each["languages"].split()), line)
        for each in raw["fault"]
        for line in each["lines"]
    )


def inject(file: FileDiff, text: str, spoken: str, split: Split, chance: random.Random, most: int) -> Injected | None:
    """At most one fault a hunk and `most` a file; None where no added line of the file ends a statement."""
    faults = [each for each in load_faults() if spoken in each.languages and each.is_for_test == (split == "test")]
    concepts = sorted({each.concept for each in faults})
    if not faults:
        return None
    rows = text.split("\n")
    hunks, said, shift, put = [], {}, 0, 0
    for hunk in file.hunks:
        at = _place(hunk, spoken, chance) if put < most else None
        lines = [(line.kind, line.text) for line in hunk.lines]
        new_start = hunk.new_start + shift
        if at is not None:
            concept = chance.choice(concepts)  # evenly over concepts, since their templates differ in number
            fault = chance.choice([each for each in faults if each.concept == concept])
            before = hunk.lines[at]
            row = (before.new or 0) + shift
            if row > len(rows):
                return None
            indent = before.text[: len(before.text) - len(before.text.lstrip())]
            line = indent + _filled(fault.text, [text for _, text in lines], chance).strip()
            rows.insert(row, line)
            lines.insert(at + 1, ("add", line))
            said[row + 1] = concept
            shift += 1
            put += 1
        counts = tuple(sum(kind != other for kind, _ in lines) for other in ("add", "del"))
        hunks.append(number_lines(hunk.path, (hunk.old_start, counts[0]), (new_start, counts[1]), hunk.section, lines))
    if not said:
        return None
    changed = FileDiff(file.path, file.old_path, file.status, file.kind, tuple(hunks))
    return Injected(changed, "\n".join(rows), said)


def _place(hunk: Hunk, spoken: str, chance: random.Random) -> int | None:
    """An added line that ends a statement, and whose brackets are closed."""
    ends = _ENDS.get(spoken, _SEMICOLON)
    fit = [
        at
        for at, line in enumerate(hunk.lines[:100])
        if line.kind == "add"
        and ends.search(line.text)
        and not _OPENS.match(line.text)
        and all(line.text.count(one) == line.text.count(other) for one, other in ("()", "[]", "{}"))
    ]
    return chance.choice(fit) if fit else None


def _filled(template: str, lines: Sequence[str], chance: random.Random) -> str:
    names = sorted({name for line in lines for name in _NAME.findall(line)} - _WORDS) or ["value", "data", "name"]
    chosen = {slot: chance.choice(names) for slot in "abc"}
    return _SLOT.sub(lambda found: chosen[found[1]], template)
