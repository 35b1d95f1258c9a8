"""Log lines as a real process writes them."""

import json
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
from pathlib import Path
import sys, structlog
from services.telemetry import configure_logging, log_each
configure_logging("tested")
log = structlog.get_logger()
"""


def written(statements: str) -> list[bytes]:
    done = subprocess.run([sys.executable, "-c", PROGRAM + statements], check=True, capture_output=True)
    return done.stderr.splitlines()


def test_a_line_is_json_with_its_event_level_time_and_service() -> None:
    (line,) = map(json.loads, written('log.info("something.happened", count=3, error=str(ValueError("no")))'))
    assert isinstance(line.pop("ts"), float)
    assert line == {"event": "something.happened", "level": "info", "service": "tested", "count": 3, "error": "no"}


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (r'"é\u202e\x1b[31m"', "é\u202e\x1b[31m"),
        (r'"half a pair: \udcff"', "half a pair: \udcff"),
        ("2**100", 2**100),
        ("{1: 'one'}", {"1": "one"}),
        ("object", "<class 'object'>"),
    ],
)
def test_whatever_is_logged_the_line_is_ascii_and_says_it(value: str, read: Any) -> None:
    (line,) = written(f'log.warning("odd", value={value})')
    assert line.isascii()
    assert b"\x1b" not in line
    assert json.loads(line)["value"] == read


def test_many_lines_are_like_single_ones_and_one_write() -> None:
    single = written('[log.info("one", number=number) for number in range(3)]')
    spy = 'write = sys.stderr.write; sys.stderr.write = lambda text: write(f"{text.count(chr(10))} lines\\n{text}")'
    first, *many = written(f'{spy}\nlog_each("one", ({{"number": number}} for number in range(3)))')
    assert first == b"3 lines"
    assert [{**json.loads(line), "ts": 0} for line in many] == [{**json.loads(line), "ts": 0} for line in single]


def test_a_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    lost = 'log.info("lost"); log_each("lost", [{}]); import logging; logging.getLogger("library").warning("lost")'
    full = f"sys.stderr = open('/dev/full', 'w', buffering=1); {lost}"
    assert written(f"kept = sys.stderr\n{full}\nsys.stderr = kept\nlog.info('back')")[-1].startswith(b'{"event":"back"')
