"""What other analyzers said, read from SARIF 2.1.0 or rdjson (one document, or a diagnostic a line). No engine.

Sources: docs.oasis-open.org/sarif/sarif/v2.1.0; github.com/reviewdog/reviewdog, proto/rdf.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from model.inputs.files import language
from model.labels import Category, Severity, concept_of, load_concepts, rules_of
from sentinelctl.errors import UsageError

_TEACHERS: Final = {"eslint": "eslint", "ruff": "ruff", "shellcheck": "shellcheck", "cppcheck": "cppcheck",
                    "cpplint": "cpplint", "checkstyle": "checkstyle", "flawfinder": "flawfinder"}  # fmt: skip
_SEVERITIES: Final[Mapping[str, Severity]] = {
    "error": "bug", "warning": "suggestion", "note": "nit", "none": "nit", "info": "nit",
}  # fmt: skip
_ALL_ERRORS: Final = frozenset({"ruff"})  # calls everything an error, a missing blank line too
_CRITICAL, _BUG = 9.0, 7.0  # of the security-severity that code scanning reads
_TEXT_CHARS: Final = 600
_REMEDY: Final = "write one with the tool's own option, as `ruff check --output-format sarif` does"


@dataclass(frozen=True, slots=True)
class Imported:
    """One report: lines in the new numbering, both ends included, and what it stands for in our scale."""

    tool: str
    code: str
    path: str  # as the tool wrote it
    first: int
    last: int
    concept: str  # of the catalog where it knows the rule, else tool/code
    title: str
    text: str
    category: Category
    severity: Severity
    is_known: bool  # the concept is one of the catalog, which then gives the words

    @property
    def said_by(self) -> str:
        return f"{self.tool} {self.code}"


def read(name: str) -> tuple[Imported, ...]:
    """The reports of one file, `-` for standard input; what was suppressed or has no place is left out.

    Raises UsageError.
    """
    label = "standard input" if name == "-" else name
    try:
        content = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as exc:
        raise UsageError(f"{name} cannot be imported: {exc.strerror}", remedy=_REMEDY) from exc
    documents = _documents(content, label)
    try:
        return tuple(found for document in documents for found in _of(document, label))
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as exc:
        raise UsageError(
            f"{label} is neither SARIF nor rdjson as they are defined: {type(exc).__name__} {exc}", remedy=_REMEDY
        ) from exc


def _documents(content: bytes, label: str) -> list[Any]:
    text = content.decode("utf-8-sig", "replace")
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError) as whole:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except (ValueError, RecursionError):
            raise UsageError(f"{label} is no JSON: {whole}", remedy=_REMEDY) from whole


def _of(document: Any, label: str) -> Iterator[Imported]:
    if not isinstance(document, dict):
        raise UsageError(f"{label} holds {type(document).__name__} where SARIF or rdjson is one object", remedy=_REMEDY)
    if "runs" in document:
        for run in document["runs"]:
            yield from _sarif(run)
    elif "diagnostics" in document:
        for diagnostic in document["diagnostics"]:
            yield from _rdjson(diagnostic, document)
    elif "message" in document and "location" in document:
        yield from _rdjson(document, {})
    else:
        raise UsageError(
            f"{label} has neither `runs`, as SARIF has, nor `diagnostics`, as rdjson has; it has "
            f"{', '.join(sorted(document)[:5]) or 'nothing'}",
            remedy=_REMEDY,
        )


def _sarif(run: dict[str, Any]) -> Iterator[Imported]:
    driver = run["tool"]["driver"]
    rules = driver.get("rules") or []
    by_id = {rule["id"]: rule for rule in rules}
    bases = {name: base.get("uri", "") for name, base in (run.get("originalUriBaseIds") or {}).items()}
    for result in run.get("results") or []:
        locations = result.get("locations") or []
        if result.get("suppressions") or result.get("baselineState") == "absent" or not locations:
            continue
        physical = locations[0].get("physicalLocation") or {}
        artifact, region = physical.get("artifactLocation") or {}, physical.get("region") or {}
        first = region.get("startLine")
        if "uri" not in artifact or not first:
            continue
        at = result.get("ruleIndex", -1)
        named = result.get("ruleId") or (result.get("rule") or {}).get("id") or (rules[at]["id"] if at >= 0 else "")
        rule = by_id.get(named) or (rules[at] if 0 <= at < len(rules) else {})
        level = result.get("level") or (rule.get("defaultConfiguration") or {}).get("level") or "warning"
        security = (rule.get("properties") or {}).get("security-severity")
        yield _imported(
            driver["name"],
            named,
            _path(bases.get(artifact.get("uriBaseId"), "") + artifact["uri"]),
            (int(first), int(region.get("endLine") or first)),
            str(level),
            (rule.get("shortDescription") or {}).get("text") or rule.get("name") or named,
            str((result.get("message") or {}).get("text") or ""),
            float(security) if security is not None else 0.0,
        )


def _rdjson(diagnostic: dict[str, Any], document: dict[str, Any]) -> Iterator[Imported]:
    place = diagnostic["location"]
    span = place.get("range") or {}
    first = (span.get("start") or {}).get("line")
    if not first:
        return
    source = diagnostic.get("source") or document.get("source") or {}
    code = (diagnostic.get("code") or {}).get("value") or ""
    last = (span.get("end") or {}).get("line") or first
    level = str(diagnostic.get("severity") or document.get("severity") or "WARNING").lower()
    yield _imported(
        source.get("name") or "imported", code, _path(place["path"]), (int(first), int(last)), level, code,
        str(diagnostic["message"]), 0.0,
    )  # fmt: skip


def _imported(
    tool: str, code: str, path: str, rows: tuple[int, int], level: str, title: str, message: str, security: float
) -> Imported:
    tool, name = tool[:40], tool.lower()
    teacher = next((ours for theirs, ours in _TEACHERS.items() if name.startswith(theirs)), None)
    spoken = language(path)
    concepts = [concept for concept in load_concepts() if concept.speaks(spoken)]
    concept = concept_of(code, rules_of(teacher, concepts)) if teacher else None
    if concept is not None:
        words = (concept.id, concept.title, concept.text, concept.category, concept.severity)
    else:
        severity = _SEVERITIES.get(level, "suggestion")
        if name in _ALL_ERRORS and severity == "bug":
            severity = "suggestion"
        if security >= _BUG:
            severity = "critical" if security >= _CRITICAL else "bug"
        words = (
            f"{tool}/{code}" if code else tool, _short(title or code or tool, 80), _short(message, _TEXT_CHARS),
            "security" if security else "other", severity,
        )  # fmt: skip
    return Imported(tool, code, path, min(rows), max(rows), *words, is_known=concept is not None)


def _short(text: str, most: int) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= most else f"{plain[: most - 1]}…"


def _path(uri: str) -> str:
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return unquote(parts.path) if parts.scheme else unquote(uri)
    return uri  # c:\… on Windows reads as a scheme


def place(imported: Iterable[Imported], paths: Iterable[str], cwd: Path) -> dict[str, list[Imported]]:
    """By the path of the diff that each speaks of; what speaks of no such file is left out.

    A tool writes a path from the root of the repository, from the folder it ran in, or whole.
    """
    wanted = set(paths)
    top = next((folder for folder in (cwd, *cwd.parents) if (folder / ".git").exists()), cwd)
    roots = [folder for folder in (cwd, *cwd.parents) if folder.is_relative_to(top)]
    found: dict[str, list[Imported]] = {}
    for each in imported:
        plain = os.path.normpath(each.path.replace("\\", "/"))
        whole = Path(os.path.normpath(cwd / plain))
        inside = (whole.relative_to(root).as_posix() for root in roots if whole.is_relative_to(root))
        if (path := next((name for name in (plain, *inside) if name in wanted), None)) is not None:
            found.setdefault(path, []).append(each)
    return found
