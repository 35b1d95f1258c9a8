"""Every call of README's 'Connect a repository' is made, as written, against fakehub."""

import json
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from sentinelctl.fakehub.server import Running, running_fakehub

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-this-test"
SECRET = "a-secret-of-this-test"


@dataclass(frozen=True)
class Call:
    method: str
    url: str
    headers: dict[str, str]
    body: str | None


def calls() -> list[Call]:
    """The curl commands of the section, with its two variables filled in."""
    section = README.split("### Connect a repository", 1)[1].split("\n## ", 1)[0]
    found = []
    for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        text = block.replace('"$SENTINEL_WEBHOOK_SECRET"', SECRET).replace("$SENTINEL_GITHUB_TOKEN", TOKEN)
        words = shlex.split(text.replace("\\\n", " "))
        if words[:1] == ["curl"]:
            found.append(_parse(words[1:]))
    return found


def _parse(words: list[str]) -> Call:
    method, url, headers, body = "", "", {}, None
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if word == "-X":
            method = queue.pop(0)
        elif word == "-H":
            name, _, value = queue.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            body = queue.pop(0)
        elif not word.startswith("-"):
            url = word
    return Call(method or ("GET" if body is None else "POST"), url, headers, body)


@pytest.fixture
def fakehub(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "a.py").write_text("x = 1\n")
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "a"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    with running_fakehub([tmp_path], token=TOKEN) as running:
        yield running


def perform(call: Call, fakehub: Running) -> httpx2.Response:
    name = fakehub.hub.repositories[0].full_name
    url = call.url.replace("https://api.github.com", fakehub.url).replace("OWNER/REPO", name)
    body = None if call.body is None else call.body.replace("https://sentinel.example.org", "http://127.0.0.1:9")
    return httpx2.request(call.method, url, headers=call.headers, content=body, trust_env=False)


def test_the_section_checks_the_token_and_makes_the_hook(fakehub: Running) -> None:
    look, hook = calls()
    assert perform(look, fakehub).json()["full_name"] == fakehub.hub.repositories[0].full_name
    made = perform(hook, fakehub)
    assert made.status_code == 201, made.text
    assert made.json()["events"] == ["push", "pull_request"]
    (kept,) = fakehub.hub.repositories[0].hooks.values()
    assert (kept.secret, kept.url) == (SECRET, "http://127.0.0.1:9/webhook")


def test_the_body_of_the_hook_call_is_json_after_the_shell_has_read_it() -> None:
    assert json.loads(calls()[1].body or "")["config"]["content_type"] == "json"


def test_a_wrong_token_is_told_so(fakehub: Running) -> None:
    look = calls()[0]
    wrong = Call(look.method, look.url, {"Authorization": "Bearer wrong"}, None)
    assert perform(wrong, fakehub).status_code == 401
