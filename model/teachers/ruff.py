"""Python, by ruff: every rule the catalog names, on lone files."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from model.teachers import Diagnostic, Report, Teacher, find


def teacher(rules: Sequence[str]) -> Teacher:
    ruff = find("ruff", "pip install ruff")
    command = [
        ruff, "check", "--isolated", "--no-cache", "--quiet", "--exit-zero", "--output-format", "json",
        "--target-version", "py311", "--line-length", "100", "--select", ",".join(sorted(rules)),
    ]  # fmt: skip

    def check(folder: Path, files: Sequence[str]) -> Report:
        done = subprocess.run([*command, *files], cwd=folder, capture_output=True, check=True)
        diagnostics, broken = [], set()
        for one in json.loads(done.stdout or b"[]"):
            name = str(Path(one["filename"]).relative_to(folder.resolve()))
            if one["code"] in (None, "invalid-syntax"):
                broken.add(name)
            else:
                rows = one["location"]["row"], one["end_location"]["row"]
                diagnostics.append(Diagnostic(name, *rows, one["code"]))
        return Report(tuple(diagnostics), frozenset(broken))

    return Teacher("ruff", ("python",), check)
