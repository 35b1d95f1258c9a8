"""Whether a JSON web token is one that GitHub would take from an App."""

from collections.abc import Mapping
from typing import Any

import jwt

# GitHub takes a token for ten minutes at most, and none from the future; a minute of clock drift is let pass.
MAX_LIFE_S = 600
DRIFT_S = 60


def refusal(token: str, public_key: str | None, now_s: float) -> str | None:
    """GitHub's words for what is wrong, or None. Without a key the signature is not looked at."""
    try:
        if jwt.get_unverified_header(token).get("alg") != "RS256":
            return "A JSON web token could not be decoded"
        claims: Mapping[str, Any] = jwt.decode(
            token,
            key=public_key or "",
            algorithms=["RS256"],
            options={"verify_signature": public_key is not None, "verify_exp": False, "verify_iat": False},
        )
    except (jwt.PyJWTError, ValueError):
        return "A JSON web token could not be decoded"
    issued, expires = claims.get("iat"), claims.get("exp")
    if not claims.get("iss"):
        return "Missing 'issuer' claim ('iss') in assertion"
    if not isinstance(issued, int | float):
        return "Missing 'issued at' claim ('iat') in assertion"
    if not isinstance(expires, int | float):
        return "Missing 'expiration time' claim ('exp') in assertion"
    if issued > now_s + DRIFT_S:
        return "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued"
    if expires <= now_s:
        return "'Expiration time' claim ('exp') must be a numeric value representing the future time"
    if expires > now_s + MAX_LIFE_S + DRIFT_S:
        return "'Expiration time' claim ('exp') is too far in the future"
    return None
