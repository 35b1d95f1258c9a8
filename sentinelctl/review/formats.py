"""Findings for programs: a document, GitHub's annotations, SARIF 2.1.0. Pure."""

from typing import Any, Final
from urllib.parse import quote

from model.labels import SEVERITIES, Concept
from sentinelctl.console import clean
from sentinelctl.review.findings import Reviewed, Shown

VERSION: Final = 1
_ANNOTATIONS: Final = {"nit": "notice", "suggestion": "warning", "bug": "error", "critical": "error"}
_LEVELS: Final = {"nit": "note", "suggestion": "warning", "bug": "error", "critical": "error"}


def document(reviewed: Reviewed, label: str) -> dict[str, Any]:
    """What `--format json` answers; fields are added to a version, never changed."""
    return {
        "version": VERSION,
        "change": label,
        "findings": [_plain(shown) for shown in reviewed.findings],
        "not_shown": dict(reviewed.hidden),
        "hunks": reviewed.hunks,
        "hunks_reviewed": reviewed.hunks_reviewed,
        "hunks_skipped": dict(reviewed.skipped),
        "imported": {"on_the_diff": reviewed.imported, "outside": reviewed.outside},
        "model": _model(reviewed),
    }


def annotations(reviewed: Reviewed) -> str:
    """Workflow commands, the worst first, since GitHub shows ten of a level a step.

    Source: docs.github.com, "Workflow commands for GitHub Actions"; escapes as in actions/toolkit, command.ts.
    """
    worst_first = sorted(reviewed.findings, key=lambda each: -SEVERITIES.index(each.finding.severity))
    return "".join(f"{_annotation(shown)}\n" for shown in worst_first)


def sarif(reviewed: Reviewed, concepts: tuple[Concept, ...], version: str) -> dict[str, Any]:
    """One run; a rule for each concept, so that a dashboard knows what a clean result was asked about."""
    index = {concept.id: at for at, concept in enumerate(concepts)}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "Sentinel",
                        "version": version,
                        "informationUri": "https://github.com/sentinel-review/sentinel",
                        "rules": [_rule(concept) for concept in concepts],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(shown, index) for shown in reviewed.findings],
                "properties": {
                    "hunks": reviewed.hunks,
                    "hunksReviewed": reviewed.hunks_reviewed,
                    "hunksSkipped": dict(reviewed.skipped),
                    "model": _model(reviewed),
                },
            }
        ],
    }


def _plain(shown: Shown) -> dict[str, Any]:
    finding = shown.finding
    return {
        "path": finding.path,
        "line": finding.line,
        "side": finding.side,
        "severity": finding.severity,
        "category": finding.category,
        "concept": finding.concept,
        "title": finding.title,
        "text": finding.text,
        "confidence": None if shown.confidence is None else round(shown.confidence, 4),
        "said_by": list(shown.said_by),
        "fingerprint": shown.fingerprint,
        "source": next((line.text for line in shown.source if line.new == finding.line), ""),
    }


def _model(reviewed: Reviewed) -> dict[str, str]:
    return {"name": reviewed.model.name, "version": reviewed.model.version, "digest": reviewed.model.digest}


def _annotation(shown: Shown) -> str:
    finding = shown.finding
    title = f"{finding.severity}: {finding.title} ({shown.said})"
    properties = f"file={_property(finding.path)},line={finding.line},title={_property(title)}"
    return f"::{_ANNOTATIONS[finding.severity]} {properties}::{_data(f'{finding.text} [{finding.concept}]')}"


def _data(text: str) -> str:
    """A message; control characters other than the two that have an escape could start a command of their own."""
    for char, escape in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A")):
        text = text.replace(char, escape)
    return clean(text)


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _rule(concept: Concept) -> dict[str, Any]:
    return {
        "id": concept.id,
        "shortDescription": {"text": concept.title},
        "fullDescription": {"text": concept.say()},
        "help": {"text": concept.say()},
        "defaultConfiguration": {"level": _LEVELS[concept.severity]},
        "properties": {"tags": [concept.category], "severity": concept.severity},
    }


def _result(shown: Shown, index: dict[str, int]) -> dict[str, Any]:
    finding = shown.finding
    return {
        "ruleId": finding.concept,
        **({"ruleIndex": index[finding.concept]} if finding.concept in index else {}),
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.title}. {finding.text}"},
        **({} if shown.confidence is None else {"rank": round(100 * shown.confidence, 2)}),
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(finding.path, safe="/")},
                    "region": {"startLine": finding.line},
                }
            }
        ],
        "partialFingerprints": {"sentinelFinding/v1": shown.fingerprint},
        "properties": {
            "severity": finding.severity,
            "category": finding.category,
            "saidBy": list(shown.said_by),
        },
    }
