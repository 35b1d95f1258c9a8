"""Mined comments with what the triage rules say of each."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from model.dataset import DataError
from model.mining.comments import read
from model.triage import rule


def label(folder: Path) -> Counter[tuple[str, str]]:
    """Writes `severity` and `category` into each line of every .jsonl below `folder`; counts of (severity, category).

    Each file is written anew beside itself and renamed when whole, a line at a time; a second run writes the same.
    """
    files = sorted(folder.rglob("*.jsonl"))
    if not files:
        raise DataError(
            f"{folder} holds no mined comments; `sentinelctl data mine-reviews --out {folder}` fetches them"
        )
    count: Counter[tuple[str, str]] = Counter()
    for path in files:
        part = path.with_suffix(".part")
        with part.open("w", encoding="utf-8") as file:
            for comment in read(path):
                said = {"severity": rule.severity_of(comment.body), "category": rule.category_of(comment.body)}
                document = {**asdict(comment), **said, "rule": rule.VERSION}
                file.write(json.dumps(document, ensure_ascii=False) + "\n")
                count[said["severity"], said["category"]] += 1
        part.replace(path)
    return count
