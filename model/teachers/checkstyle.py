"""Java, by checkstyle: the checks the catalog names, on lone files, without any project's configuration."""

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from model.teachers import Diagnostic, Report, Teacher, find

# What each check is asked beside its defaults.
_PROPERTIES: Final = {
    "EmptyCatchBlock": {"exceptionVariableName": "expected|ignore|ignored"},
    "MagicNumber": {"ignoreHashCodeMethod": "true", "ignoreAnnotation": "true", "ignoreFieldDeclaration": "true"},
    "VisibilityModifier": {"protectedAllowed": "true", "packageAllowed": "true"},
    "NestedIfDepth": {"max": "3"},
    "NestedForDepth": {"max": "2"},
    "MissingJavadocMethod": {"scope": "public", "allowedAnnotations": "Override,Test"},
    "MissingJavadocType": {"scope": "public"},
}
_DOCTYPE: Final = (
    '<!DOCTYPE module PUBLIC "-//Checkstyle//DTD Checkstyle Configuration 1.3//EN" '
    '"https://checkstyle.org/dtds/configuration_1_3.dtd">'
)
_UNREAD: Final = "com.puppycrawl.tools.checkstyle.Checker"  # speaks of a file that does not parse


def teacher(rules: Sequence[str]) -> Teacher:
    program = find("checkstyle", "install your system's package of that name")

    def check(folder: Path, files: Sequence[str]) -> Report:
        with tempfile.NamedTemporaryFile("w", suffix=".xml", encoding="utf-8") as config:
            config.write(_config(rules))
            config.flush()
            done = subprocess.run(
                [program, "-c", config.name, "-f", "xml", *files], cwd=folder, capture_output=True, check=False
            )
        try:
            found = ElementTree.fromstring(done.stdout[: done.stdout.rindex(b">") + 1])  # noqa: S314 (its own output)
        except (ValueError, ElementTree.ParseError) as exc:
            said = (done.stderr or done.stdout).decode(errors="replace")
            raise RuntimeError(f"checkstyle ended with {done.returncode}: {said[-500:]}") from exc
        diagnostics, broken = [], set()
        for file in found.iter("file"):
            name = str(Path(file.attrib["name"]).relative_to(folder.resolve()))
            for one in file.iter("error"):
                row, source = int(one.attrib["line"]), one.attrib["source"]
                if source in (_UNREAD, "com.puppycrawl.tools.checkstyle.TreeWalker"):
                    broken.add(name)
                else:
                    diagnostics.append(Diagnostic(name, row, row, source.rpartition(".")[2].removesuffix("Check")))
        return Report(tuple(diagnostics), frozenset(broken))

    return Teacher("checkstyle", ("java",), check)


def _config(rules: Sequence[str]) -> str:
    modules = "".join(
        f"<module name={quoteattr(rule)}>"
        + "".join(
            f"<property name={quoteattr(key)} value={quoteattr(value)}/>"
            for key, value in _PROPERTIES.get(rule, {}).items()
        )
        + "</module>"
        for rule in sorted(rules)
    )
    return (
        f'<?xml version="1.0"?>{_DOCTYPE}<module name="Checker"><property name="haltOnException" value="false"/>'
        f'<module name="TreeWalker">{modules}</module></module>'
    )
