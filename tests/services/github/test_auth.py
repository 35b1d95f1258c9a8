import asyncio

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import SecretStr

from services.errors import ConfigError, Poison
from services.github.auth import AppAuth, InstallationToken, TokenAuth

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PEM = SecretStr(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())


class Mint:
    """Gives token-1, token-2, …, each for an hour, and keeps what it was asked."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.asked: list[tuple[int, str]] = []

    def clock(self) -> float:
        return self.now

    async def __call__(self, installation_id: int, assertion: str) -> InstallationToken:
        self.asked.append((installation_id, assertion))
        await asyncio.sleep(0)
        return InstallationToken(f"token-{len(self.asked)}", self.now + 3600)


@pytest.fixture
def mint() -> Mint:
    return Mint()


@pytest.fixture
def auth(mint: Mint) -> AppAuth:
    return AppAuth(7, PEM, mint, mint.clock)


async def test_the_assertion_is_signed_and_short_lived(auth: AppAuth, mint: Mint) -> None:
    await auth.token(42)
    claims = jwt.decode(
        mint.asked[0][1], KEY.public_key(), algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert claims == {"iat": 999_940, "exp": 1_000_540, "iss": "7"}
    assert claims["exp"] - claims["iat"] <= 600


async def test_a_token_is_asked_for_once_however_many_wait_for_it(auth: AppAuth, mint: Mint) -> None:
    assert await asyncio.gather(*[auth.token(42) for _ in range(10)]) == ["token-1"] * 10
    assert len(mint.asked) == 1


async def test_each_installation_has_its_own_token(auth: AppAuth) -> None:
    assert await auth.token(1) != await auth.token(2)


@pytest.mark.parametrize(("passed_s", "token"), [(3299, "token-1"), (3301, "token-2")])
async def test_a_token_is_renewed_five_minutes_early(auth: AppAuth, mint: Mint, passed_s: float, token: str) -> None:
    await auth.token(42)
    mint.now += passed_s
    assert await auth.token(42) == token


async def test_a_refused_token_is_forgotten_once(auth: AppAuth) -> None:
    first = await auth.token(42)
    assert auth.forget(42, first)
    second = await auth.token(42)
    assert auth.forget(42, first)
    assert await auth.token(42) == second == "token-2"


async def test_an_event_without_installation_is_poison_to_an_app(auth: AppAuth) -> None:
    with pytest.raises(Poison) as caught:
        await auth.token(0)
    assert caught.value.reason == "no_installation"


@pytest.mark.parametrize(
    "key", ["", "not a key", "-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----"]
)
def test_a_key_that_cannot_sign_is_refused_at_the_start_and_not_shown(mint: Mint, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AppAuth(7, SecretStr(key), mint, mint.clock)
    assert "SENTINEL_GITHUB_APP_KEY_FILE" in str(caught.value)
    assert not key or key not in str(caught.value)


async def test_a_plain_token_serves_everyone_and_cannot_be_renewed() -> None:
    auth = TokenAuth(SecretStr("secret"))
    assert await auth.token(1) == await auth.token(2) == "secret"
    assert not auth.forget(1, "secret")
    assert "secret" not in repr(vars(auth))
