"""Go, Java, and what no other teacher says of the rest, by ast-grep: syntax alone, by the rules of the .yml files here.

A rule's id is the concept it reports, a dot and a number. Rules in javascript.yml are also asked of TypeScript, those
in c.yml also of C++. A Go or Java file in which the parser finds an error is one this teacher cannot speak of.
"""

import json
import subprocess
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Final

from model.teachers import Diagnostic, Report, Teacher, find

LANGUAGES: Final = {  # by ast-grep's name
    "Go": "go", "Java": "java", "Python": "python", "Bash": "shell", "C": "c", "Cpp": "cpp",
    "JavaScript": "javascript", "TypeScript": "typescript", "Tsx": "typescript",
}  # fmt: skip
_ALSO: Final = {"JavaScript": ("TypeScript", "Tsx"), "C": ("Cpp",)}
_UNPARSABLE: Final = "unparsable"


def teacher() -> Teacher:
    program = find("ast-grep", "pip install ast-grep-cli")
    command = [program, "scan", "--inline-rules", "\n---\n".join(rules()), "--json=stream", "--no-ignore", "hidden"]

    def check(folder: Path, files: Sequence[str]) -> Report:
        done = subprocess.run([*command, *files], cwd=folder, capture_output=True, check=False)
        if done.returncode not in (0, 1):  # 1: it found something
            raise RuntimeError(f"ast-grep ended with {done.returncode}: {done.stderr.decode(errors='replace')[-500:]}")
        diagnostics, broken = [], set()
        for line in done.stdout.splitlines():
            one = json.loads(line)
            concept, rows = one["ruleId"].partition(".")[0], one["range"]
            if concept == _UNPARSABLE:
                broken.add(one["file"])
            else:
                diagnostics.append(Diagnostic(one["file"], rows["start"]["line"] + 1, rows["end"]["line"] + 1, concept))
        return Report(tuple(diagnostics), frozenset(broken))

    return Teacher("astgrep", tuple(dict.fromkeys(LANGUAGES.values())), check)


def rules() -> list[str]:
    """Each rule as a YAML document, once for every language it is asked of."""
    found = []
    for file in sorted(files(__name__).iterdir(), key=lambda each: each.name):
        if not file.name.endswith(".yml"):
            continue
        for document in file.read_text("utf-8").split("\n---\n"):
            language = next(line for line in document.splitlines() if line.startswith("language: ")).split()[1]
            copies = [
                document.replace(f"language: {language}", f"language: {each}") for each in _ALSO.get(language, ())
            ]
            found += [document, *copies]
    return found
