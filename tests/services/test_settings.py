from pathlib import Path

import pytest

from services.errors import ConfigError
from services.settings import load, secret_keys


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1", "redis://sentinel@redis.internal:6380/3", "rediss://[::1]:6379/", "redis://h/0"]
)
def test_the_address_of_a_redis_is_taken(url: str) -> None:
    assert load(environ={"SENTINEL_CLAIMS_URL": url}).claims.url == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:6379",
        "http://127.0.0.1",
        "redis://",
        "redis:///0",
        "redis://h:port",
        "redis://h:70000",
        "redis://h/name",
        "redis://h?ssl_cert_reqs=none",
        "redis://h/0#1",
        "unix:///run/redis.sock",
    ],
)
def test_what_is_no_address_of_a_redis_is_refused_with_what_one_looks_like(url: str) -> None:
    with pytest.raises(ConfigError, match=r"claims\.url: .*give redis://HOST:PORT/DB"):
        load(environ={"SENTINEL_CLAIMS_URL": url})


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("redis://:hunter2@h", "set SENTINEL_CLAIMS_PASSWORD instead"),
        ("rediss://u:hunter2@h:1/2", "set SENTINEL_CLAIMS_PASSWORD instead"),
        ("redis://:hunter2/3@h", "give redis://HOST:PORT/DB"),
        ("redis://h:hunter2", "give redis://HOST:PORT/DB"),
    ],
)
def test_a_password_in_the_address_is_refused_and_not_repeated(tmp_path: Path, url: str, remedy: str) -> None:
    """The address is shown by `config show` and stands in plans; the password has a variable of its own."""
    path = tmp_path / "sentinel.toml"
    path.write_text(f'[claims]\nurl = "{url}"\n')
    for config, environ in ((path, {}), (None, {"SENTINEL_CLAIMS_URL": url})):
        with pytest.raises(ConfigError, match=remedy) as refused:
            load(config, environ)
        assert "hunter2" not in f"{refused.value} {refused.value.__cause__}"


def test_the_password_of_the_redis_is_a_secret(tmp_path: Path) -> None:
    assert ("claims", "password") in secret_keys()
    (tmp_path / "password").write_text("hunter2\n")
    found = load(environ={"SENTINEL_CLAIMS_PASSWORD_FILE": str(tmp_path / "password")}).claims
    assert found.password.get_secret_value() == "hunter2"
    assert "hunter2" not in repr(found)
