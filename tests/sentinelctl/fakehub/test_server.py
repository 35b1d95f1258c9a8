import socket

import httpx2
import pytest

from sentinelctl.errors import PreflightError, UsageError
from sentinelctl.fakehub.hub import FakeHub
from sentinelctl.fakehub.server import running_fakehub, serve

from .conftest import Workshop


def test_a_fakehub_on_a_thread_answers_until_its_block_ends(shop: Workshop) -> None:
    with running_fakehub([shop.path], copies=2) as running, httpx2.Client(trust_env=False) as client:
        shown = client.get(f"{running.url}/repos/local/sample-2").json()
        assert (shown["id"], shown["url"]) == (700_000_002, f"{running.url}/repos/local/sample-2")
        assert len(running.hub.requests) == 1
        port = int(running.url.rpartition(":")[2])
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_taken_port_is_named(shop: Workshop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PreflightError, match=f"127.0.0.1:{port}"), running_fakehub([shop.path], port=port):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
async def test_an_address_other_hosts_reach_is_refused(hub: FakeHub, host: str) -> None:
    with pytest.raises(UsageError, match="loopback only"):
        async with serve(hub, host):
            pass


async def test_every_address_is_taken_when_the_user_allows_it(hub: FakeHub) -> None:
    async with serve(hub, "0.0.0.0", allow_remote=True) as url, httpx2.AsyncClient(trust_env=False) as client:
        port = url.rpartition(":")[2]
        assert (await client.get(f"http://127.0.0.1:{port}/rate_limit")).status_code == 200
