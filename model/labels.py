"""The catalog of concepts, and how an analyzer's rule becomes one. Category and severity follow from the concept."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, get_args

Severity = Literal["nit", "suggestion", "bug", "critical"]
Category = Literal[
    "style", "naming", "logic", "performance", "security", "error_handling", "testing", "documentation",
    "complexity", "duplication", "typing", "other",
]  # fmt: skip
SEVERITIES: Final[tuple[Severity, ...]] = get_args(Severity)  # mildest first
CATEGORIES: Final[tuple[Category, ...]] = get_args(Category)
_SLOT: Final = re.compile(r"\{(\w+)\}")
_READ: Final = 400  # characters of a line that a pattern is looked for in
_NAME_CHARS: Final = 60  # of what fills a slot


@dataclass(frozen=True, slots=True)
class Concept:
    """One thing a reviewer would say."""

    id: str
    title: str
    category: Category
    severity: Severity
    languages: tuple[str, ...]  # as model.inputs.files.language names them; ("*",): all
    text: str  # what was seen, why it matters, what to do; a {slot} stands for a name taken from the line
    teachers: tuple[tuple[str, str], ...]  # (analyzer, rule or pattern)
    in_tests: bool = True  # False: not asked of tests, nor of examples and scripts
    only: str = ""  # a pattern: asked only of lines in which it is found; without it the claim cannot be true
    unless: tuple[str, ...] = ()  # patterns: not asked of lines in which one is found, where this is the custom
    slots: tuple[tuple[str, str, str], ...] = ()  # (slot, pattern, words where the pattern finds nothing)

    @property
    def is_rule(self) -> bool:
        """Decided by model/rules.py, so no column of the network's output."""
        return any(teacher == "rule" for teacher, _ in self.teachers)

    def speaks(self, language: str) -> bool:
        return "*" in self.languages or language in self.languages

    def excuses(self, line: str) -> bool:
        """Whether this is not asked of the line: it lacks `only`, or has `unless`."""
        if self.only and re.search(self.only, line[:_READ]) is None:
            return True
        return any(re.search(pattern, line[:_READ]) for pattern in self.unless)

    def say(self, line: str = "") -> str:
        """The text with its slots filled from the line, in `code`; without one, in general words."""
        words = {slot: (pattern, otherwise) for slot, pattern, otherwise in self.slots}

        def fill(found: re.Match[str]) -> str:
            pattern, otherwise = words[found[1]]
            if name := _name(pattern, line):
                return f"`{name}`"
            opens = found.start() == 0 or found.string.endswith(". ", 0, found.start())
            return otherwise[:1].upper() + otherwise[1:] if opens else otherwise

        return _SLOT.sub(fill, self.text)


class CatalogError(ValueError):
    """concepts.toml contradicts itself; the message names the entry."""


@cache
def load_concepts() -> tuple[Concept, ...]:
    """Every concept, in the order of model/concepts.toml. Raises CatalogError."""
    raw = tomllib.loads(files("model").joinpath("concepts.toml").read_text("utf-8"))
    concepts = tuple(_concept(entry, raw.get("slots", {})) for entry in raw["concept"])
    if len({concept.id for concept in concepts}) != len(concepts):
        raise CatalogError("concepts.toml: two entries share an id; ids must differ")
    return concepts


def learned(concepts: Iterable[Concept]) -> tuple[Concept, ...]:
    """Those the network has an output column for; column 0 is `no finding`, so concept i is column i + 1."""
    return tuple(concept for concept in concepts if not concept.is_rule)


def rules_of(teacher: str, concepts: Iterable[Concept]) -> tuple[tuple[str, Concept], ...]:
    """(rule or pattern, concept) of one analyzer."""
    return tuple((rule, concept) for concept in concepts for name, rule in concept.teachers if name == teacher)


def concept_of(code: str, rules: Iterable[tuple[str, Concept]]) -> Concept | None:
    """The concept an analyzer's code stands for, or None where the catalog leaves it out."""
    return next((concept for rule, concept in rules if fnmatchcase(code, rule)), None)


def _name(pattern: str, line: str) -> str:
    """What the pattern's first group to match holds: one printable line without backticks, cut where it is long."""
    found = re.search(pattern, line[:_READ])
    text = next(filter(None, found.groups()), "") if found else ""
    plain = " ".join("".join(each if each.isprintable() else " " for each in text.replace("`", "")).split())
    return plain if len(plain) <= _NAME_CHARS else f"{plain[: _NAME_CHARS - 1]}…"


def _concept(entry: dict[str, Any], shared: dict[str, list[str]]) -> Concept:
    name = entry.get("id", "?")
    if entry.get("severity") not in SEVERITIES or entry.get("category") not in CATEGORIES:
        raise CatalogError(
            f"concepts.toml: {name!r} has category {entry.get('category')!r} and severity {entry.get('severity')!r}; "
            f"use one of {', '.join(CATEGORIES)} and one of {', '.join(SEVERITIES)}"
        )
    own = shared | entry.get("slots", {})
    wanted = dict.fromkeys(_SLOT.findall(entry["text"]))
    if unknown := [slot for slot in wanted if slot not in own]:
        raise CatalogError(f"concepts.toml: {name!r} has a slot {unknown[0]!r} that neither it nor [slots] defines")
    return Concept(
        id=name,
        title=entry["title"],
        category=entry["category"],
        severity=entry["severity"],
        languages=tuple(entry["languages"].split()),
        text=entry["text"],
        teachers=tuple((teacher, rule) for teacher, rules in entry["teachers"].items() for rule in rules.split()),
        in_tests=entry.get("in_tests", True),
        only=entry.get("only", ""),
        unless=tuple(entry.get("unless", ())),
        slots=tuple((slot, own[slot][0], own[slot][1]) for slot in wanted),
    )
