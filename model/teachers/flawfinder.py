"""C and C++, by flawfinder: calls that need care. A code is category, risk (0-5) and function: buffer4/strcpy."""

import csv
import subprocess
from collections.abc import Sequence
from pathlib import Path

from model.teachers import Diagnostic, Report, Teacher, find


def teacher() -> Teacher:
    program = find("flawfinder", "pip install flawfinder")

    def check(folder: Path, files: Sequence[str]) -> Report:
        done = subprocess.run(
            [program, "--csv", "--minlevel=1", *files],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        diagnostics = [
            Diagnostic(str(Path(row["File"])), int(row["Line"]), int(row["Line"]), _code(row))
            for row in csv.DictReader(done.stdout.splitlines())
            if (row.get("Line") or "").isdigit()
        ]
        return Report(tuple(diagnostics))

    return Teacher("flawfinder", ("c", "cpp"), check)


def _code(row: dict[str, str]) -> str:
    return f"{row['Category']}{row['Level']}/{row['Name']}"
