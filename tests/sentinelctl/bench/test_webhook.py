import pytest

from sentinelctl.bench.webhook import receiver_at
from sentinelctl.errors import UsageError
from services.settings import Settings, load

KNOWN = load(environ={"SENTINEL_WEBHOOK_SECRET": "s3cret"})
UNKNOWN = load(environ={})


@pytest.mark.parametrize(
    ("url", "is_known", "settings", "fault"),
    [
        ("http://127.0.0.1:8000", False, KNOWN, "none that this command started:"),
        ("http://sentinel.example.org:8000", False, KNOWN, "none that this command started, and on another machine"),
        ("http://127.0.0.1:8000", True, UNKNOWN, "no webhook secret is set"),
        ("ftp://127.0.0.1", True, KNOWN, "no address of a receiver"),
        ("http://127.0.0.1:99999", True, KNOWN, "no address of a receiver"),
        ("127.0.0.1:8000", True, KNOWN, "no address of a receiver"),
    ],
)
def test_load_goes_only_where_its_operator_says_so(url: str, is_known: bool, settings: Settings, fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        receiver_at(url, settings, body_bytes=7000, is_known=is_known)


def test_a_receiver_that_is_known_gets_load_and_nobody_looks_into_its_log() -> None:
    found = receiver_at("http://127.0.0.1:8000", KNOWN, body_bytes=7000, is_known=True)
    assert (found.host, found.port, found.secret, found.stored) == ("127.0.0.1", 8000, "s3cret", None)
