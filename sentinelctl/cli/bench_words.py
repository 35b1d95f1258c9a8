"""What every bench command does with its words and its result."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from sentinelctl.errors import Exit


def store(out: Path | None, document: Mapping[str, Any]) -> None:
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def words(kind: str) -> list[str]:
    """The words of this command as they were typed, without those that say where the document goes."""
    typed = sys.argv[sys.argv.index(kind) + 1 :] if kind in sys.argv else []
    kept: list[str] = []
    skip = False
    for word in typed:
        if skip or word in ("--json", "--out") or word.startswith("--out="):
            skip = word == "--out"
            continue
        kept.append(word)
    return kept


def judge(ctx: typer.Context, faults: Sequence[str]) -> None:
    """Exit 99 where there are any."""
    if faults:
        ctx.obj.console.note(f"threshold failed: {'; '.join(faults)}")
        raise typer.Exit(Exit.THRESHOLD)
