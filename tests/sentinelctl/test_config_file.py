import tomllib
from pathlib import Path

from sentinelctl.config_file import Source, effective, render
from services.settings import Settings, load, secret_keys, sections


def test_the_written_file_loads_to_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "sentinel.toml"
    path.write_text(render(), encoding="utf-8")
    assert load(path, {}) == Settings()


def test_the_written_file_has_every_key_that_is_no_secret() -> None:
    document = tomllib.loads(render())
    keys = {(section, key) for section, model in sections().items() for key in model.model_fields}
    assert {(section, key) for section in document for key in document[section]} == keys - set(secret_keys())


def test_every_key_of_the_written_file_is_explained_above_it() -> None:
    lines = render().splitlines()
    for number, line in enumerate(lines):
        if line and line[0] not in "#[":
            assert lines[number - 1].startswith("# "), line


def test_a_secret_is_named_with_its_variable_and_no_key() -> None:
    text = render()
    assert "# A secret: SENTINEL_WEBHOOK_SECRET or SENTINEL_WEBHOOK_SECRET_FILE" in text
    assert "\nsecret =" not in text


def test_each_value_in_force_has_its_source_and_no_secret_shows(tmp_path: Path) -> None:
    path = tmp_path / "sentinel.toml"
    path.write_text("[webhook]\nport = 8001\nbind = '127.0.0.2'\n", encoding="utf-8")
    hidden = tmp_path / "token"
    hidden.write_text("forge-token\n", encoding="utf-8")
    environ = {
        "SENTINEL_WEBHOOK_BIND": "127.0.0.3",
        "SENTINEL_WEBHOOK_SECRET": "hook-secret",
        "SENTINEL_GITHUB_TOKEN_FILE": str(hidden),
    }
    found = {(one.section, one.key): one for one in effective(load(path, environ), path, environ)}
    assert (found["webhook", "port"].value, found["webhook", "port"].source) == (8001, Source.FILE)
    assert (found["webhook", "bind"].value, found["webhook", "bind"].source) == ("127.0.0.3", Source.ENVIRONMENT)
    assert found["stream", "kind"].source is Source.DEFAULT
    assert (found["webhook", "secret"].value, found["webhook", "secret"].source) == ("set", Source.ENVIRONMENT)
    assert (found["github", "token"].value, found["github", "token"].source) == ("set", Source.ENVIRONMENT)
    assert (found["github", "app_key"].value, found["github", "app_key"].source) == ("not set", Source.DEFAULT)
    assert "hook-secret" not in repr(found)
    assert "forge-token" not in repr(found)
