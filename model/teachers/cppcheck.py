"""C and C++, by cppcheck: what it can say of a lone file, headers unread."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from model.teachers import Diagnostic, Report, Teacher, find

_FILE_LIMIT_S = 20


def teacher() -> Teacher:
    program = find("cppcheck", "install your system's package of that name")
    command = [
        program, "--quiet", "--enable=warning,style,performance,portability", "--max-configs=1", "--inline-suppr",
        "--suppress=missingInclude", "--template={file}\t{line}\t{id}", "--template-location=",
    ]  # fmt: skip

    def check(folder: Path, files: Sequence[str]) -> Report:
        diagnostics, broken = [], set()
        for name in files:
            try:
                done = subprocess.run(
                    [*command, name],
                    cwd=folder,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    check=False,
                    timeout=_FILE_LIMIT_S,
                )
            except subprocess.TimeoutExpired:
                broken.add(name)
                continue
            for line in done.stderr.splitlines():
                file, _, rest = line.partition("\t")
                row, _, code = rest.partition("\t")
                if code in ("syntaxError", "preprocessorErrorDirective", "internalAstError"):
                    broken.add(name)
                elif file == name and row.isdigit() and int(row) > 0:
                    diagnostics.append(Diagnostic(name, int(row), int(row), code))
        return Report(tuple(diagnostics), frozenset(broken))

    return Teacher("cppcheck", ("c", "cpp"), check)
