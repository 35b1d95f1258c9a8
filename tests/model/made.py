"""Mined data without a history: hunks of made-up repositories, in which an obvious pattern decides the label."""

import json
import random
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from model.dataset import SPLITS, Split, split_of
from model.inputs.tokenizer import Tokenizer, train_tokenizer

NOUNS = ("path", "total", "header", "client", "answer", "record", "column", "buffer", "socket", "window", "parser")
CONCEPTS = ("bare_except", "debug_print")  # a bug and a suggestion


def named(split: Split, number: int) -> list[str]:
    """Made-up repositories whose sha256 puts them in this split."""
    names = (f"made/up{at}" for at in range(10_000))
    return [name for name in names if split_of(name) == split][:number]


def record(repository: str, *lines: tuple[str, str], labels: dict[int, list[str]] | None = None, **changes: Any) -> Any:
    """One line of a mined file, read back: what model.mining.git writes of a hunk with these lines."""
    raw = {
        "repository": repository,
        "sha": "0" * 40,
        "time": 1_700_000_000,
        "path": "src/store.py",
        "language": "python",
        "hunk": [1, 1, 1, 1, "def load(path):"],
        "lines": [list(line) for line in lines],
        "labels": {str(at): said for at, said in (labels or {}).items()},
        "unsure": [],
    }
    return raw | changes


def write(folder: Path, repository: str, records: Iterator[Any] | list[Any]) -> None:
    """A mined file as it lies in the data folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    (folder / f"{repository.replace('/', '+')}.jsonl").write_text(text, "utf-8")


def write_all(folder: Path, hunks: int = 40, seed: int = 5) -> Path:
    """Six repositories to train on, two to calibrate with and two to test on, each with this many hunks."""
    for split, number in zip(SPLITS, (6, 2, 2), strict=True):
        for repository in named(split, number):
            chance = random.Random(f"{repository} {seed}")
            write(folder, repository, [_hunk(repository, chance) for _ in range(hunks)])
    return folder


def _hunk(repository: str, chance: random.Random) -> Any:
    """Four added lines: a handler that names its error or does not, and a line that prints or logs."""
    one, other = ("_".join(chance.choices(NOUNS, k=chance.randint(1, 3))) for _ in range(2))
    is_bare, is_print = chance.random() < 0.3, chance.random() < 0.3
    lines = [
        ("ctx", "    try:"),
        ("add", f"        {one} = load({other})"),
        ("add", "    except:" if is_bare else f"    except {other}.Missing:"),
        ("add", f"        print({one})" if is_print else f"        log.info({one})"),
        ("add", f"        return {other}"),
    ]
    labels = {2: ["bare_except"]} if is_bare else {}
    return record(repository, *lines, labels=labels | ({3: ["debug_print"]} if is_print else {}))


def history(folder: Path, commits: Iterable[tuple[int, str, Mapping[str, str]]]) -> Path:
    """A bare repository with these commits: Unix time, message, and the files that it writes."""
    stream = b""
    for time, message, files in commits:
        stream += b"commit HEAD\ncommitter t <t@example.org> %d +0000\n%s" % (time, _data(message))
        stream += b"".join(b"M 100644 inline %s\n%s" % (path.encode(), _data(text)) for path, text in files.items())
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True)
    subprocess.run(["git", "-C", str(folder), "fast-import", "--quiet"], input=stream, check=True)
    return folder


def _data(text: str) -> bytes:
    return b"data %d\n%s\n" % (len(text.encode()), text.encode())


def still() -> float:
    """A clock that stands, so that steps alone end a run, however busy the machine."""
    return 0.0


@cache
def tokenizer() -> Tokenizer:
    lines = (
        "import os",
        "def main(argument):",
        "    return value + 1",
        "try:",
        "except ValueError as exc:",
        "print(x)",
    )
    return train_tokenizer([f"{line} # {n}" for line in lines for n in range(20)], 400)
