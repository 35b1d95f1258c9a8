"""Who we are to GitHub: a token, or a GitHub App that trades a signed assertion for a token of each installation."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import jwt
from pydantic import SecretStr

from services.errors import ConfigError, Poison

REFRESH_EARLY_S = 300.0
_ISSUED_AGO_S = 60
_ASSERTION_S = 540
"""GitHub refuses an assertion that lasts over ten minutes; with the 60 s of `iat` it is exactly ten."""


@dataclass(frozen=True, slots=True)
class InstallationToken:
    value: str = field(repr=False)
    expires_at: float
    """Unix seconds."""


class Auth(Protocol):
    def account(self, installation_id: int) -> int:
        """Whose limits a call counts against."""

    async def token(self, installation_id: int) -> str: ...

    def forget(self, installation_id: int, token: str) -> bool:
        """After a 401: True when another token can be had, so that asking once more makes sense."""


class TokenAuth:
    """One token for everything."""

    def __init__(self, token: SecretStr) -> None:
        self._token = token

    def account(self, installation_id: int) -> int:  # noqa: ARG002
        return 0

    async def token(self, installation_id: int) -> str:  # noqa: ARG002
        return self._token.get_secret_value()

    def forget(self, installation_id: int, token: str) -> bool:  # noqa: ARG002
        return False


class AppAuth:
    """A GitHub App. Tokens are kept per installation, renewed five minutes early, one request at a time for each."""

    def __init__(
        self,
        app_id: int,
        key: SecretStr,
        mint: Callable[[int, str], Awaitable[InstallationToken]],
        clock: Callable[[], float],
    ) -> None:
        """mint(installation id, assertion) asks GitHub for a token. Raises ConfigError when the key cannot sign."""
        self._app_id, self._key, self._mint, self._clock = app_id, key, mint, clock
        self._tokens: dict[int, InstallationToken] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._assertion()

    def account(self, installation_id: int) -> int:
        return installation_id

    async def token(self, installation_id: int) -> str:
        if not installation_id:
            raise Poison(
                "no_installation",
                "the event names no installation, but github.app_id is set; send events by the App's own webhook, "
                "or unset github.app_id and set SENTINEL_GITHUB_TOKEN",
            )
        async with self._locks[installation_id]:
            known = self._tokens.get(installation_id)
            if known is None or known.expires_at - self._clock() < REFRESH_EARLY_S:
                known = self._tokens[installation_id] = await self._mint(installation_id, self._assertion())
            return known.value

    def forget(self, installation_id: int, token: str) -> bool:
        known = self._tokens.get(installation_id)
        if known is not None and known.value == token:
            del self._tokens[installation_id]
        return True

    def _assertion(self) -> str:
        now = int(self._clock())
        claims = {"iat": now - _ISSUED_AGO_S, "exp": now + _ASSERTION_S, "iss": str(self._app_id)}
        try:
            return jwt.encode(claims, self._key.get_secret_value(), algorithm="RS256")
        except (jwt.PyJWTError, ValueError, TypeError):
            raise ConfigError(
                "the key of the GitHub App is no RSA private key in PEM; download it from the App's settings page and "
                "set SENTINEL_GITHUB_APP_KEY_FILE to its path"
            ) from None
