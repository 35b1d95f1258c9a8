"""A test of `sentinelctl chaos`: with one promise broken in a copy of the tree, the experiment about it goes red.

The mutations are those of test_mutation_promises.py; here they meet real processes under load instead of the suite.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .test_mutation_promises import MUTATIONS, ROOT, copied, mutate

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(400)]

LOAD = ("--duration", "12", "--rate", "5", "--latency-ms", "200")
"""Enough under way at any moment for a kill to meet it."""


@pytest.mark.parametrize(
    ("mutation", "experiment", "broken"),
    [
        ("commit_before_the_effect", "kill-extractor", "lost"),
        ("confirm_before_the_post", "kill-at-post", "lost"),
        ("no_claim", "duplicates", "duplicates"),
        ("accepted_before_the_append", "bus-unreachable", "lost"),
    ],
)
def test_a_broken_promise_deviates(tmp_path: Path, mutation: str, experiment: str, broken: str) -> None:
    tree = copied(tmp_path)
    mutate(tree, MUTATIONS[mutation])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "sentinelctl", "--json", "chaos", "run", experiment, *LOAD],
        cwd=tree, capture_output=True, text=True, timeout=390, check=False,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
            "PYTHONPATH": f"{tree}:{tree / 'proto'}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"),
            "SENTINEL_PROJECT_RUNTIME": "embedded",
            "SENTINEL_INFERENCE_WEIGHTS": str(ROOT / "model" / "weights"),
        },
    )  # fmt: skip
    assert done.returncode == 99, done.stderr
    (found,) = json.loads(done.stdout)["experiments"]
    assert found["verdict"] == "deviated", found
    assert found[broken] > 0, found["reasons"]
