"""README shows the tree and the help text; both are compared with the real ones."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block_after(heading: str) -> str:
    """The first fenced block below a heading."""
    found = re.search(rf"^#+ {re.escape(heading)}$.*?^```[a-z]*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found, f"README has no fenced block below {heading!r}"
    return found.group(1)


def test_the_help_text_in_the_readme_is_the_real_one() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "sentinelctl", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "100", "NO_COLOR": "1"},
    ).stdout
    assert block_after("Commands").split() == shown.split()


def test_every_path_of_the_tree_exists() -> None:
    parents: list[str] = []
    for line in block_after("The tree").splitlines():
        name = line.split()[0] if line.strip() else ""
        if not name:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        parents = [*parents[:depth], name]
        path = ROOT.joinpath(*parents)
        assert path.exists(), f"README's tree names {'/'.join(parents)}, which does not exist"
        assert path.is_dir() == name.endswith("/"), f"{name} is a folder in one place and a file in the other"


def test_every_tracked_top_level_entry_stands_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout, so there is no list of tracked files to compare with")
    real = {line.partition("/")[0] for line in listed.stdout.splitlines()}
    shown = {line.split()[0].rstrip("/") for line in block_after("The tree").splitlines() if line[:1].strip()}
    assert {name for name in real if not name.startswith(".")} == shown


def test_every_top_level_folder_has_a_readme() -> None:
    folders = {
        line.split()[0]
        for line in block_after("The tree").splitlines()
        if line[:1].strip() and line.split()[0].endswith("/")
    }
    assert [name for name in sorted(folders) if not (ROOT / name / "README.md").exists()] == []
