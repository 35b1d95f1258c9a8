"""Review comments of made-up repositories, in which the triage rules find their words."""

import json
import random
from dataclasses import asdict
from pathlib import Path

from model.config import EncoderConfig, Recipe, TrainConfig
from model.mining.comments import Comment

OPENINGS = ("this", "the loop here", "I think that", "please", "line below")
WORDS = {
    "critical": ("will crash on null", "leaks a secret, security", "is critical for the cache"),
    "bug": ("is wrong in this condition", "is incorrect", "fails the test"),
    "suggestion": ("could be simpler", "looks fine", "should have a comment"),
    "nit": ("nit: indent", "is minor: space", "has a typo"),
}
SHARES = {"critical": 1, "bug": 2, "suggestion": 6, "nit": 3}


def comment(body: str, *, number: int = 1, repository: str = "made/up", path: str = "src/a.py") -> Comment:
    return Comment(
        id=number,
        repository=repository,
        pull=1 + number // 10,
        created_at=f"2024-01-{1 + number % 28:02}T12:00:00Z",
        path=path,
        line=number,
        side="RIGHT",
        is_reply=False,
        commit="0" * 40,
        diff_hunk="@@ -1,1 +1,2 @@\n one\n+two",
        body=body,
    )


def comments(number: int, repository: str = "made/up", seed: int = 5) -> list[Comment]:
    chance = random.Random(f"{repository} {seed}")
    kinds = chance.choices(list(SHARES), list(SHARES.values()), k=number)
    return [
        comment(f"{chance.choice(OPENINGS)} {chance.choice(WORDS[kind])}", number=at, repository=repository)
        for at, kind in enumerate(kinds, 1)
    ]


def write(path: Path, found: list[Comment]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(each)) + "\n" for each in found), "utf-8")
    return path


RECIPE = Recipe(
    "smoke",
    EncoderConfig(vocab_size=2048, width=32, layers=1, heads=2, hidden=64, bigrams=0, max_tokens=256),
    TrainConfig(max_steps=60, batch_rows=32, learning_rate=6e-3, temper=0.25, minutes=5),
)
KNOWN = [each for name in ("made/up", "made/other") for each in comments(150, name)]
