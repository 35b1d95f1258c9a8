"""One concept of the catalog for people and programs, and the refusal of a name that is none."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from rich.text import Text

from model.engine import Manifest
from model.labels import Concept, load_concepts
from sentinelctl.errors import UsageError


def named(name: str) -> Concept:
    """The concept of that id. Raises UsageError with the ids that come near."""
    by_id = {concept.id: concept for concept in load_concepts()}
    if name in by_id:
        return by_id[name]
    words = re.findall(r"[a-z0-9]+", name.lower())
    shared = [each for each in by_id if not set(words).isdisjoint(each.split("_"))]
    near = dict.fromkeys([*get_close_matches("_".join(words), by_id, n=3, cutoff=0.7), *shared][:5])
    raise UsageError(
        f"no concept is called {name!r}",
        remedy=f"{'near it: ' + ', '.join(near) + '; ' if near else ''}`sentinelctl model concepts` lists all",
    )


def plain(concept: Concept) -> dict[str, Any]:
    """What `--json` answers of a concept; fields are added, never changed."""
    return {
        "concept": concept.id,
        "title": concept.title,
        "category": concept.category,
        "severity": concept.severity,
        "languages": list(concept.languages),
        "asked_of_tests": concept.in_tests,
        "only": concept.only,
        "unless": list(concept.unless),
        "text": concept.say(),
        "slots": [slot for slot, _, _ in concept.slots],
        "teachers": [f"{teacher}:{rule}" for teacher, rule in concept.teachers],
    }


def lines(concept: Concept, manifest: Manifest) -> Iterator[Text]:
    """Everything there is to say of it, and what these weights do with it."""
    yield Text.assemble((concept.title, "bold"), f" ({concept.id})")
    yield Text(f"{concept.severity}, {concept.category.replace('_', ' ')}; {spoken(concept)}")
    yield Text()
    yield Text(concept.say())
    yield Text()
    by: dict[str, list[str]] = {}
    for teacher, rule in concept.teachers:
        by.setdefault(teacher, []).append(rule)
    if concept.is_rule:
        yield Text("decided by a rule in code, so it is certain wherever it is said", "dim")
        return
    yield Text("taught by " + "; ".join(f"{teacher} {' '.join(rules)}" for teacher, rules in by.items()), "dim")
    if concept.only:
        yield Text(f"asked only of lines in which this is found: {concept.only}", "dim")
    for pattern in concept.unless:
        yield Text(f"not asked of lines in which this is found: {pattern}", "dim")
    yield Text(f"{manifest.name} {manifest.version} {_answer(concept, manifest)}", "dim")


def spoken(concept: Concept) -> str:
    """`python, shell; not in tests, examples or scripts`."""
    languages = "every language" if "*" in concept.languages else ", ".join(concept.languages)
    return languages if concept.in_tests else f"{languages}; not in tests, examples or scripts"


def _answer(concept: Concept, manifest: Manifest) -> str:
    if concept.id not in manifest.concepts:
        return "was not taught it: too few lines of its training data have it"
    least = manifest.thresholds.get(concept.id, 1.0)
    if least > 1:
        return "knows it and never shows it: on validation no confidence was right often enough"
    return f"shows it from {least:.0%} confidence"
