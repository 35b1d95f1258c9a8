"""Measurements, each from one command: open-loop load, backlogs, ours beside a control, and the report of all."""

from pathlib import Path
from typing import Final

STORED: Final = Path(".github/bench")
"""Results that BENCHMARK.md is made of, from the root of a checkout."""
