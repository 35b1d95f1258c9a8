import httpx2
import pytest

from sentinelctl.fakehub.app import create_app
from sentinelctl.fakehub.hub import TOKEN_USER, FakeHub
from sentinelctl.fakehub.limits import CONCURRENT, PRIMARY, Limits, Verdict

from .conftest import Workshop

REPO = "/repos/local/sample"
NOW = 1_800_000_000.0


class Traffic:
    """One account's requests, one after the other, a second from the last."""

    def __init__(self) -> None:
        self.now = NOW
        self.limits = Limits(is_enforced=True)

    def send(self, *, is_content: bool = False, after_s: float = 0.0) -> Verdict:
        self.now += after_s
        verdict = self.limits.begin(1, self.now, is_write=is_content, is_content=is_content)
        self.limits.end(1, was_unchanged=False)
        return verdict


def test_five_thousand_requests_an_hour_pass_and_the_next_waits_for_the_reset() -> None:
    traffic = Traffic()
    assert not any(traffic.send(after_s=0.5).refusal for _ in range(PRIMARY))
    over = traffic.send()
    assert (over.remaining, over.retry_after_s, over.resets_at_s) == (0, None, NOW + 0.5 + 3600.5)
    assert "API rate limit exceeded" in (over.refusal or "")
    traffic.now = over.resets_at_s
    assert traffic.send().remaining == PRIMARY - 1


def test_the_81st_content_write_of_a_minute_is_told_how_long_to_wait() -> None:
    traffic = Traffic()
    assert not any(traffic.send(is_content=True, after_s=0.5).refusal for _ in range(80))
    over = traffic.send(is_content=True)
    assert "secondary rate limit" in (over.refusal or "")
    assert over.retry_after_s == 21
    assert traffic.send().refusal is None
    assert traffic.send(is_content=True, after_s=21).refusal is None


def test_the_501st_content_write_of_an_hour_is_refused() -> None:
    traffic = Traffic()
    assert not any(traffic.send(is_content=True, after_s=1).refusal for _ in range(500))
    assert traffic.send(is_content=True, after_s=1).retry_after_s == 3600 - 500


def test_nine_hundred_points_a_minute_are_the_most() -> None:
    traffic = Traffic()
    assert not any(traffic.send().refusal for _ in range(900))
    assert traffic.send(after_s=10).retry_after_s == 50


def test_the_101st_request_at_once_is_refused() -> None:
    limits = Limits(is_enforced=True)
    begun = [limits.begin(1, NOW, is_write=False, is_content=False).refusal for _ in range(CONCURRENT + 1)]
    assert [each is None for each in begun] == [True] * CONCURRENT + [False]
    for _ in begun:
        limits.end(1, was_unchanged=False)
    assert limits.begin(1, NOW, is_write=False, is_content=False).refusal is None


def test_accounts_do_not_share_limits() -> None:
    traffic = Traffic()
    for _ in range(900):
        traffic.send()
    assert traffic.limits.begin(2, traffic.now, is_write=False, is_content=False).refusal is None


@pytest.mark.parametrize("has_limits", [True, False])
async def test_limits_are_always_counted_and_refused_only_on_demand(shop: Workshop, has_limits: bool) -> None:
    now = [NOW]
    hub = FakeHub([shop.path], has_limits=has_limits, clock_ns=lambda: int(now[0] * 10**9))
    hub.create_pull(hub.repositories[0], base="main~1", head="main")
    transport = httpx2.ASGITransport(create_app(hub))
    async with httpx2.AsyncClient(transport=transport, base_url=hub.base_url) as client:
        first = await client.get(REPO)
        again = await client.get(REPO, headers={"If-None-Match": first.headers["etag"]})
        assert (first.headers["x-ratelimit-used"], again.status_code) == ("1", 304)
        assert (await client.get("/rate_limit")).json()["rate"]["used"] == 1
        for _ in range(80):
            verdict = hub.limits.begin(TOKEN_USER.id, now[0], is_write=True, is_content=True)
            hub.limits.end(TOKEN_USER.id, was_unchanged=False)
        assert verdict.refusal is None
        answer = await client.post(f"{REPO}/pulls/1/reviews", json={"event": "COMMENT", "body": "text"})
    assert answer.status_code == (403 if has_limits else 200)
    assert answer.headers.get("retry-after") == ("60" if has_limits else None)
    assert len(hub.visible()) == (0 if has_limits else 1)
