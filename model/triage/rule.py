"""The keyword rules that triage learns. What they say is the truth of its figures, so each scores 1.00 by construction.

Severity is the rule of the network this project set out from: a word anywhere in the comment, the gravest wins, and
`suggestion` where there is none. Category has no human label in the data either: it is the table below, ours, over the
twelve categories of the catalog. Neither is a reader's judgement.
"""

import re
from typing import Final

from model.labels import Category, Severity

VERSION: Final = 1  # of both tables; a label names it, so that older ones are made anew
BY_CONSTRUCTION: Final = (
    "the labels are what a keyword rule says of the comment, so the rule itself scores 1.00 by construction"
)

# Substrings of the lower-cased comment, so `unit` holds `nit`: that is the rule, and its figures depend on it.
_SEVERITIES: Final[tuple[tuple[Severity, tuple[str, ...]], ...]] = (
    ("critical", ("security", "vulnerability", "critical", "crash", "exploit")),
    ("bug", ("bug", "incorrect", "wrong", "broken", "fails")),
    ("suggestion", ("consider", "suggestion", "maybe", "could")),
    ("nit", ("nit", "minor", "style", "rename", "typo")),
)

# Beginnings of words; the first category that has one wins, so the particular stand before the general.
_CATEGORIES: Final[dict[Category, str]] = {
    "security": "secur vulnerab exploit attack inject credential password secret sanitiz malicious untrusted "
    "constant-time",
    "performance": "perform slow faster speed efficien optimi latency benchmark expensive overhead cache throughput",
    "testing": "test mock fixture coverage fuzz",
    "naming": "name naming rename misnamed misnomer",
    "duplication": "duplicat redundan repeat repetit reuse reusing copy-paste copied factor-out",
    "error_handling": "error exception throw catch raise raising failure abort assert timeout retry recover unhandled "
    "errno",
    "typing": "type typing typedef cast signed unsigned annotat overload generic",
    "documentation": "document doc docs docstring readme comment typo spell grammar wording word sentence paragraph "
    "phras changelog",
    "style": "style nit format indent whitespace space blank newline brace bracket lint semicolon capital",
    "complexity": "complex complicat simpl refactor nest split extract readab helper clean",
    "logic": "bug wrong incorrect broken fails logic condition race deadlock overflow underflow off-by-one crash loop "
    "behavio null undefined",
}
_BEGINNINGS: Final = tuple(
    (category, re.compile(r"\b(?:" + "|".join(map(re.escape, words.split())) + ")"))
    for category, words in _CATEGORIES.items()
)


def severity_of(comment: str) -> Severity:
    lowered = comment.lower()
    for severity, words in _SEVERITIES:
        if any(word in lowered for word in words):
            return severity
    return "suggestion"


def category_of(comment: str) -> Category:
    lowered = comment.lower()
    for category, beginnings in _BEGINNINGS:
        if beginnings.search(lowered):
            return category
    return "other"
