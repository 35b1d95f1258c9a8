from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sentinelctl.fakehub.app_token import refusal

NOW_S = 1_800_000_000.0
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _token(key: rsa.RSAPrivateKey = KEY, **changes: Any) -> str:
    claims = {"iss": "1", "iat": int(NOW_S) - 60, "exp": int(NOW_S) + 540, **changes}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm="RS256")


@pytest.mark.parametrize("public_key", [None, PUBLIC])
def test_a_token_as_github_asks_for_it_passes(public_key: str | None) -> None:
    assert refusal(_token(), public_key, NOW_S) is None


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "could not be decoded"),
        ("ghp_personal", "could not be decoded"),
        (jwt.encode({"iss": "1"}, "x" * 32, algorithm="HS256"), "could not be decoded"),
        (_token(iss=None), "'iss'"),
        (_token(iat=None), "'iat'"),
        (_token(exp=None), "'exp'"),
        (_token(iat=int(NOW_S) + 120), "'iat'"),
        (_token(exp=int(NOW_S)), "'exp'"),
        (_token(exp=int(NOW_S) + 3600), "too far in the future"),
    ],
)
def test_a_token_github_would_not_take_is_refused(token: str, words: str) -> None:
    assert words in (refusal(token, None, NOW_S) or "")


def test_another_keys_token_is_refused_where_the_key_is_known() -> None:
    assert refusal(_token(OTHER), PUBLIC, NOW_S) == "A JSON web token could not be decoded"
