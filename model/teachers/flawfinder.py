"""C and C++, by flawfinder: calls that need care. Codes are `category/function`, such as buffer/strcpy."""

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
            Diagnostic(str(Path(row["File"])), int(row["Line"]), int(row["Line"]), f"{row['Category']}/{row['Name']}")
            for row in csv.DictReader(done.stdout.splitlines())
            if (row.get("Line") or "").isdigit()
        ]
        return Report(tuple(diagnostics))

    return Teacher("flawfinder", ("c", "cpp"), check)
