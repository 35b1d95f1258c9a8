import json

import pytest

from sentinelctl.logline import fields, readable


def test_a_line_reads_as_time_level_event_and_its_fields() -> None:
    text = json.dumps({"event": "webhook.started", "port": 8000, "level": "info", "ts": 0.25, "service": "webhook"})
    time, level, event, port = readable(text).plain.split()
    assert time.endswith(":00.250")
    assert (level, event, port) == ("info", "webhook.started", "port=8000")


def test_an_exception_stands_below_its_line() -> None:
    text = json.dumps({"event": "crashed", "level": "error", "exception": "Traceback:\n  boom"})
    assert readable(text).plain.splitlines()[1:] == ["Traceback:", "  boom"]


@pytest.mark.parametrize("text", ["Traceback (most recent call last):", "[1, 2]", "7", ""])
def test_what_is_no_object_is_an_event(text: str) -> None:
    assert fields(text) == {"event": text}
    assert readable(text).plain == text


def test_nothing_in_a_line_commands_the_terminal() -> None:
    hostile = "\x1b]0;owned\x07"
    line = json.dumps({"event": hostile, "level": hostile, hostile: hostile, "exception": hostile})
    for text in (line, hostile, json.dumps({"event": "a", "nested": {"deep": hostile}})):
        assert "\x1b" not in readable(text).plain
        assert "\x07" not in readable(text).plain
