import json
import os
import signal
import subprocess
import sys

import httpx2

from .conftest import Workshop


def test_the_command_serves_until_it_is_interrupted(shop: Workshop) -> None:
    command = [sys.executable, "-m", "sentinelctl", "--json", "fakehub", "--repo", str(shop.path), "--copies", "2"]
    environment = {**os.environ, "SENTINEL_GITHUB_TOKEN": "s3cret"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, cwd=shop.path.parent) as process:
        assert process.stdout is not None
        document = json.loads(process.stdout.readline())
        assert [one["full_name"] for one in document["repositories"]] == ["local/sample", "local/sample-2"]
        url = f"{document['url']}/repos/local/sample-2"
        with httpx2.Client(trust_env=False) as client:
            assert client.get(url).status_code == 401
            assert client.get(url, headers={"Authorization": "Bearer s3cret"}).json()["full_name"] == "local/sample-2"
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
    assert "s3cret" not in json.dumps(document)


def test_a_webhook_that_is_no_address_is_refused(shop: Workshop) -> None:
    command = [sys.executable, "-m", "sentinelctl", "fakehub", "--repo", str(shop.path), "--webhook", "localhost:8000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=shop.path.parent)
    assert done.returncode == 2
    assert "http(s)://HOST:PORT/webhook" in done.stderr
