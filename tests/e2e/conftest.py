import subprocess
from pathlib import Path

import pytest

CHANGES = {
    "app.py": [
        "import os\n",
        "def load(path):\n    return open(path).read()\n",
        "try:\n    load('x')\nexcept:\n    pass\n",
    ],
    "run.sh": ["#!/bin/bash\n", "cd $1\n", "rm -rf $2/\n"],
    "page.js": ["'use strict'\n", "var a = 1\n", "if (a == 2) { eval(a) }\n"],
}


def git(path: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(path), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Nine commits in three languages, and a merge."""
    path = tmp_path / "repository"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    for step in range(3):
        for name, parts in CHANGES.items():
            (path / name).write_text("".join(parts[: step + 1]))
            git(path, "add", ".")
            git(path, "commit", "-qm", f"{name}, step {step}")
    git(path, "checkout", "-qb", "side", "HEAD~2")
    (path / "notes.md").write_text("notes\n")
    git(path, "add", ".")
    git(path, "commit", "-qm", "notes")
    git(path, "checkout", "-q", "main")
    git(path, "merge", "-q", "--no-edit", "side")
    return path
