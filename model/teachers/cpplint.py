"""C and C++, by cpplint: the categories the catalog names, on lone files. A code is one: readability/braces."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from model.teachers import Diagnostic, Report, Teacher, find

_FOUND: Final = re.compile(r"^(.+?):(\d+):  .*  \[([a-z_+0-9]+/[a-z_+0-9]+)\] \[\d\]$")


def teacher(rules: Sequence[str]) -> Teacher:
    program = find("cpplint", "pip install cpplint")
    asked = ",".join(["-", *(f"+{rule}" for rule in sorted(rules))])

    def check(folder: Path, files: Sequence[str]) -> Report:
        done = subprocess.run(
            [program, "--quiet", f"--filter={asked}", "--extensions=c,cc,cpp,cxx,c++,h,hh,hpp,hxx,h++,ipp,tpp", *files],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        if done.returncode not in (0, 1):  # 1: it found something
            raise RuntimeError(f"cpplint ended with {done.returncode}: {done.stderr[-500:]}")
        found = filter(None, map(_FOUND.match, done.stderr.splitlines()))
        return Report(
            tuple(
                Diagnostic(one[1], int(one[2]), int(one[2]), one[3])
                for one in found
                if one[3] in rules and int(one[2]) > 0
            )
        )

    return Teacher("cpplint", ("c", "cpp"), check)
