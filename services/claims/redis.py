"""Claims in one Redis, shared by publishers on any number of machines.

Every decision is one Lua script, so nothing comes between its look and its write, and leases end by Redis's own clock.
A claim's record outlives its lease: what an ended lease may have done is remembered for as long as a confirmed review.

Redis may lose what it was told: all of it (FLUSHALL, an empty disk), or the last moments before a crash or a failover.
So the store has an era, which ends when its record is gone or when another run of the server answers than the one that
began it; `known_since` is when the present era began.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.claims.base import ENDED_LEASE_KEPT_S, Claim
from services.contract import Port
from services.errors import ClaimsUnavailable, ConfigError
from services.settings import ClaimsSettings, variable

T = TypeVar("T")

_ANSWER_S: Final = 2.0
_CONNECTIONS: Final = 16

# KEYS[1]: the era. Tokens follow the clock, so that they also grow across a loss of the last one.
_ERA: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local era = redis.call('HMGET', KEYS[1], 'run', 'since', 'token')
if era[1] ~= run then
  era[2] = string.format('%.0f', now)
  redis.call('HSET', KEYS[1], 'run', run, 'since', era[2])
end
"""
_SINCE: Final = _ERA + "return era[2]"

# KEYS[2]: what is known of the claim; KEYS[3]: there while its lease runs. ARGV: milliseconds of the lease, and of the
# memory of it.
_CLAIM: Final = (
    _ERA
    + """
local known = redis.call('HMGET', KEYS[2], 'state', 'result')
if known[1] == 'done' then return {'done', known[2]} end
local left = redis.call('PTTL', KEYS[3])
if left >= 0 then return {'held', left} end
local token = string.format('%.0f', math.max(now, (tonumber(era[3]) or 0) + 1))
local is_takeover = known[1] and 1 or 0
redis.call('HSET', KEYS[1], 'token', token)
redis.call('HSET', KEYS[2], 'state', 'open', 'token', token, 'is_takeover', is_takeover)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], token, 'PX', ARGV[1])
return {'granted', token, is_takeover, era[2]}
"""
)

# KEYS: record and lease. ARGV: token, result, milliseconds to keep it.
_CONFIRM: Final = """
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'state', 'done', 'token', ARGV[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return 1
"""

# KEYS: record and lease. ARGV: token.
_RELEASE: Final = """
local known = redis.call('HMGET', KEYS[1], 'state', 'token', 'is_takeover')
if known[1] ~= 'open' or known[2] ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if known[3] == '0' then redis.call('DEL', KEYS[1]) end
"""


class RedisClaims:
    """`project` keeps installations on one Redis apart. `answer_s`: longest wait for any answer; nothing is retried.

    Nothing is connected before the first call. Raises ConfigError for certificates that cannot be read.
    """

    def __init__(self, settings: ClaimsSettings, project: str, *, answer_s: float = _ANSWER_S) -> None:
        parts = urlsplit(settings.url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self.address = f"{host}:{parts.port or Port.REDIS}"
        self._prefix = f"sentinel:{project}:"
        self._answer_s = answer_s
        tls = {"ssl_ca_certs": _ca_file(settings.ca_file)} if parts.scheme == "rediss" else {}
        self._redis = Redis.from_pool(
            BlockingConnectionPool.from_url(
                settings.url,
                password=settings.password.get_secret_value() or None,
                max_connections=_CONNECTIONS,
                retry=Retry(NoBackoff(), 0),
                **tls,
            )
        )
        script = self._redis.register_script
        self._since, self._claim = script(_SINCE), script(_CLAIM)
        self._confirm, self._release = script(_CONFIRM), script(_RELEASE)

    async def known_since(self) -> float:
        return int(await self._ask(lambda: self._since(keys=[self._era]))) / 1e6

    async def claim(self, key: str, *, lease_s: float) -> Claim:
        kept_s = lease_s + ENDED_LEASE_KEPT_S
        status, *found = await self._ask(
            lambda: self._claim(keys=[self._era, *self._keys(key)], args=[_ms(lease_s), _ms(kept_s)])
        )
        if status == b"done":
            return Claim("done", result=found[0].decode())
        if status == b"held":
            return Claim("held", retry_after_s=max(1, found[0]) / 1000)
        token, is_takeover, since = found
        return Claim("granted", token=int(token), is_takeover=bool(is_takeover), known_since=int(since) / 1e6)

    async def confirm(self, key: str, token: int, *, result: str, keep_s: float) -> bool:
        return bool(
            await self._ask(lambda: self._confirm(keys=self._keys(key), args=[token, result.encode(), _ms(keep_s)]))
        )

    async def release(self, key: str, token: int) -> None:
        await self._ask(lambda: self._release(keys=self._keys(key), args=[token]))

    async def get(self, key: str) -> bytes | None:
        return (await self.get_many([key]))[0]

    async def put(self, key: str, value: bytes, *, keep_s: float) -> None:
        await self.put_many({key: value}, keep_s=keep_s)

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        if not keys:
            return []
        found: list[Any] = await self._ask(lambda: self._redis.mget([self._value(key) for key in keys]))
        return found

    async def put_many(self, values: Mapping[str, bytes], *, keep_s: float) -> None:
        if not values:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key, value in values.items():
            pipeline.set(self._value(key), value, px=_ms(keep_s))
        await self._ask(pipeline.execute)

    async def check(self) -> str:
        """Which Redis it is, for people. Raises ClaimsUnavailable also for one that may drop a claim."""
        await self.known_since()
        info: Mapping[str, Any] = await self._ask(self._redis.info)
        policy = info.get("maxmemory_policy", "noeviction")
        if info.get("maxmemory") and policy != "noeviction":
            raise ClaimsUnavailable(
                f"the Redis at {self.address} drops keys when it is full (maxmemory-policy {policy}), and a review "
                "whose claim is dropped may be posted twice; set its maxmemory-policy to noeviction"
            )
        keeps = "append-only file" if info.get("aof_enabled") else "no append-only file"
        return f"Redis {info.get('redis_version')} at {self.address}, {keeps}"

    async def close(self) -> None:
        await self._redis.aclose()

    @property
    def _era(self) -> str:
        return f"{self._prefix}era"

    def _keys(self, key: str) -> list[str]:
        return [f"{self._prefix}claim:{key}", f"{self._prefix}lease:{key}"]

    def _value(self, key: str) -> str:
        return f"{self._prefix}value:{key}"

    async def _ask(self, act: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(self._answer_s):
                return await act()
        except (exceptions.RedisError, OSError) as exc:  # OSError: its timeouts, and those of TLS, are among them
            said = str(exc) or f"no answer within {self._answer_s:g} s"
            raise ClaimsUnavailable(f"the Redis at {self.address} did not serve: {said}; {_remedy(exc)}") from exc


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _ca_file(path: str) -> str | None:
    if not path:
        return None
    found = Path(path).expanduser()
    try:
        ssl.create_default_context(cafile=str(found))
    except OSError as exc:
        raise ConfigError(f"claims.ca_file names {found}, which holds no certificates to be read: {exc}") from exc
    return str(found)


def _remedy(exc: Exception) -> str:
    if isinstance(exc, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return f"set {variable('claims', 'password')}, or {variable('claims', 'password')}_FILE, to its password"
    if isinstance(exc, exceptions.NoPermissionError):
        return "let its user run eval, evalsha, info and time, and read and write keys that begin with sentinel:"
    if isinstance(exc, exceptions.OutOfMemoryError):
        return "raise its maxmemory, or free some; its maxmemory-policy stays noeviction"
    if isinstance(exc, exceptions.ReadOnlyError):
        return "claims.url names a replica; give the primary's address"
    if isinstance(exc, exceptions.MovedError | exceptions.AskError | exceptions.ClusterError):
        return "claims.url names a node of a sharded cluster; give it a Redis with one primary"
    if isinstance(exc, exceptions.BusyLoadingError):
        return "it reads its data back from disk, which ends by itself"
    if any(isinstance(each, ssl.SSLError) for each in (exc, exc.__cause__, exc.__context__)):
        return "see whether claims.url should be redis://, and whether claims.ca_file is what signed its certificate"
    return (
        "start it, or correct claims.url (rediss:// speaks TLS, redis:// does not); with claims.kind = sqlite none is "
        "needed"
    )
