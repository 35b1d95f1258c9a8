import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services.claims import open_claims
from services.claims.redis import RedisClaims
from services.errors import ClaimsUnavailable, ConfigError
from services.settings import ClaimsSettings, ProjectSettings, Settings
from tests.redis_process import RedisProcess, free_port, running_redis, self_signed

DAY_S = 86400.0
PASSWORD = "correct horse"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    with running_redis(tmp_path) as started:
        yield started


@asynccontextmanager
async def opened(settings: ClaimsSettings, project: str = "sentinel", **more: Any) -> AsyncIterator[RedisClaims]:
    claims = RedisClaims(settings, project, **more)
    try:
        yield claims
    finally:
        await claims.close()


async def once_back(claims: RedisClaims) -> float:
    """A connection that the server closed may cost one answer."""
    while True:
        with contextlib.suppress(ClaimsUnavailable):
            return await claims.known_since()


async def test_a_restart_that_kept_every_record_still_begins_a_new_era(tmp_path: Path):
    """What a server wrote last before it went down may be gone although it has all the rest."""
    with running_redis(tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        async with opened(server.settings()) as claims:
            done, held = await claims.claim("done", lease_s=600), await claims.claim("held", lease_s=600)
            assert await claims.confirm("done", done.token, result="review 7", keep_s=600)
            server.restart()
            await once_back(claims)
            assert (await claims.claim("done", lease_s=600)).result == "review 7"
            assert (await claims.claim("held", lease_s=600)).status == "held"
            other = await claims.claim("other", lease_s=600)
            assert other.known_since > done.known_since
            assert other.token > held.token
            assert await claims.confirm("held", held.token, result="", keep_s=600)
            assert await claims.known_since() == other.known_since


async def test_tokens_grow_across_the_loss_of_everything(server: RedisProcess):
    async with opened(server.settings()) as claims:
        before = await claims.claim("k", lease_s=600)
        server.flush()
        after = await claims.claim("k", lease_s=600)
        assert after.token > before.token
        assert not await claims.confirm("k", before.token, result="late", keep_s=600)


async def test_reviews_are_remembered_for_five_days_and_chunks_for_one(server: RedisProcess):
    settings = server.settings()
    async with opened(settings) as claims:
        confirmed = await claims.claim("confirmed", lease_s=settings.lease_s)
        await claims.confirm("confirmed", confirmed.token, result="", keep_s=settings.keep_days * DAY_S)
        await claims.claim("open", lease_s=settings.lease_s)
        await claims.put("chunk", b"", keep_s=settings.chunk_keep_h * 3600)
    with server.client() as client:
        left_s = {
            key.decode().removeprefix("sentinel:sentinel:"): client.pttl(key) / 1000
            for key in client.scan_iter("sentinel:*")
        }
    assert 4.9 * DAY_S < left_s["claim:confirmed"] <= 5 * DAY_S < left_s["claim:open"] <= 5 * DAY_S + settings.lease_s
    assert 0.9 * DAY_S < left_s["value:chunk"] <= DAY_S
    assert 0 < left_s["lease:open"] <= settings.lease_s
    assert left_s["era"] < 0


async def test_installations_on_one_redis_do_not_see_each_other(server: RedisProcess):
    async with opened(server.settings(), "one") as one, opened(server.settings(), "two") as two:
        await one.put("v", b"1", keep_s=600)
        assert (await one.claim("k", lease_s=600)).status == "granted"
        assert (await two.claim("k", lease_s=600)).status == "granted"
        assert await two.get("v") is None


async def test_no_server_is_named_with_its_address_and_serves_once_it_is_there(server: RedisProcess):
    server.kill()
    async with opened(server.settings()) as claims:
        for _ in range(3):
            with pytest.raises(ClaimsUnavailable, match=rf"Redis at {server.address} did not serve: .*; start it"):
                await claims.claim("k", lease_s=600)
        server.start()
        assert (await claims.claim("k", lease_s=600)).status == "granted"
        server.restart()
        await once_back(claims)
        assert (await claims.claim("k", lease_s=600)).status == "granted"


async def test_a_server_that_hangs_is_given_up_and_later_answers_are_not_mixed_up(server: RedisProcess):
    async with opened(server.settings(), answer_s=1.0) as claims:
        await claims.put_many({f"v{number}": str(number).encode() for number in range(40)}, keep_s=600)
        server.pause()
        answers = await asyncio.gather(*(claims.get(f"v{number}") for number in range(40)), return_exceptions=True)
        assert all(isinstance(answer, ClaimsUnavailable) for answer in answers)
        assert "no answer within 1 s" in str(answers[0])
        server.resume()
    async with opened(server.settings()) as claims:
        assert await claims.get_many([f"v{number}" for number in range(40)]) == [b"%d" % n for n in range(40)]


async def test_a_caller_that_gives_up_leaves_no_answer_to_the_next(server: RedisProcess):
    async with opened(server.settings()) as claims:
        await claims.put_many({"one": b"1", "two": b"2"}, keep_s=600)
        for _ in range(40):
            server.pause()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await claims.get("one")
            server.resume()
            assert await claims.get("two") == b"2"


async def test_a_claim_that_a_hanging_server_took_after_all_is_held_and_then_a_takeover(server: RedisProcess):
    async with opened(server.settings(), answer_s=1.0) as hasty, opened(server.settings()) as patient:
        await hasty.claim("first", lease_s=600)
        server.pause()
        with pytest.raises(ClaimsUnavailable):
            await hasty.claim("k", lease_s=600)
        server.resume()
        found = await patient.claim("k", lease_s=600)
        if found.status == "held":  # the request was in the server's hands already
            server.age(600)
            found = await patient.claim("k", lease_s=600)
            assert found.is_takeover
        assert found.status == "granted"


async def test_a_missing_or_wrong_password_is_named_and_never_told(server: RedisProcess):
    with server.client() as client:
        client.config_set("requirepass", PASSWORD)
    for password in ("", "wrong"):
        async with opened(server.settings(password=password)) as claims:
            with pytest.raises(ClaimsUnavailable, match="set SENTINEL_CLAIMS_PASSWORD") as refused:
                await claims.claim("k", lease_s=600)
            assert not password or password not in str(refused.value).replace("wrong number", "")
    async with opened(server.settings(password=PASSWORD)) as claims:
        assert (await claims.claim("k", lease_s=600)).status == "granted"
        assert PASSWORD not in repr(claims.__dict__) + await claims.check()


async def test_a_user_with_the_documented_rights_is_enough(server: RedisProcess):
    readme = (Path(__file__).parents[3] / "services" / "README.md").read_text(encoding="utf-8")
    (line,) = (line.strip() for line in readme.splitlines() if line.strip().startswith("ACL SETUSER"))
    with server.client() as client:
        client.execute_command(*line.replace("PASSWORD", PASSWORD.replace(" ", "-")).split())
        client.execute_command("ACL", "SETUSER", "default", "off")
    url = server.url.replace("//", "//sentinel@")
    async with opened(server.settings(url=url, password=PASSWORD.replace(" ", "-"))) as claims:
        one, two = await claims.claim("one", lease_s=600), await claims.claim("two", lease_s=600)
        assert await claims.confirm("one", one.token, result="", keep_s=600)
        await claims.release("two", two.token)
        await claims.put("v", b"1", keep_s=600)
        assert await claims.get("v") == b"1"
        assert "Redis" in await claims.check()
    url = url.replace("sentinel@", "default@")
    async with opened(server.settings(url=url)) as claims:
        with pytest.raises(ClaimsUnavailable, match="SENTINEL_CLAIMS_PASSWORD"):
            await claims.known_since()


async def test_a_full_server_refuses_and_says_what_to_raise(server: RedisProcess):
    with server.client() as client:
        client.config_set("maxmemory", 1)
    async with opened(server.settings()) as claims:
        with pytest.raises(ClaimsUnavailable, match="raise its maxmemory"):
            await claims.claim("k", lease_s=600)


async def test_a_replica_is_named_as_what_it_is(server: RedisProcess):
    with server.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", free_port())
    async with opened(server.settings()) as claims:
        with pytest.raises(ClaimsUnavailable, match="give the primary's address"):
            await claims.claim("k", lease_s=600)


async def test_a_server_that_may_drop_claims_does_not_pass_the_check(server: RedisProcess):
    async with opened(server.settings()) as claims:
        assert await claims.check() == f"Redis {version(server)} at {server.address}, no append-only file"
        with server.client() as client:
            client.config_set("maxmemory", 100 * 1024 * 1024)
            client.config_set("maxmemory-policy", "volatile-lru")
        with pytest.raises(ClaimsUnavailable, match=r"drops keys .* \(maxmemory-policy volatile-lru\).*noeviction"):
            await claims.check()


def version(server: RedisProcess) -> str:
    with server.client() as client:
        return str(client.info("server")["redis_version"])  # type: ignore[index]


async def test_the_factory_opens_the_redis_the_settings_name(server: RedisProcess):
    settings = Settings(project=ProjectSettings(name="here"), claims=server.settings())
    claims = open_claims(settings)
    await claims.claim("k", lease_s=600)
    await claims.close()
    with server.client() as client:
        assert client.exists("sentinel:here:claim:k")


async def test_tls_is_checked_against_the_certificates_the_settings_name(tmp_path: Path):
    certificate, key = self_signed(tmp_path)
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    with running_redis(
        tmp_path / "redis", *tls, "--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"
    ) as server:
        url = f"rediss://127.0.0.1:{port}"
        async with opened(server.settings(url=url, ca_file=str(certificate))) as claims:
            assert (await claims.claim("k", lease_s=600)).status == "granted"
        async with opened(server.settings(url=url)) as claims:
            with pytest.raises(ClaimsUnavailable, match=r"CERTIFICATE_VERIFY_FAILED.*claims\.ca_file"):
                await claims.claim("k", lease_s=600)
        async with opened(server.settings(url=url.replace("rediss", "redis"))) as claims:
            with pytest.raises(ClaimsUnavailable, match="rediss:// speaks TLS"):
                await claims.claim("k", lease_s=600)


def test_certificates_that_cannot_be_read_are_refused_at_once(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"claims\.ca_file names .*missing\.pem"):
        RedisClaims(ClaimsSettings(url="rediss://127.0.0.1", ca_file=str(tmp_path / "missing.pem")), "sentinel")
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(ConfigError, match="no certificates"):
        RedisClaims(ClaimsSettings(url="rediss://127.0.0.1", ca_file=str(tmp_path / "empty.pem")), "sentinel")
