"""GitHub's `X-Hub-Signature-256`.

Source: docs.github.com, "Validating webhook deliveries".
"""

import hmac
from collections.abc import Sequence


def is_signed(body: bytes, header: bytes, secrets: Sequence[bytes]) -> bool:
    """Whether `header` (raw, as it came) is the HMAC-SHA256 of the raw `body` under one of the secrets.

    Each comparison takes the same time wherever the bytes differ, and every secret is tried.
    """
    matches = [hmac.compare_digest(header, sign(body, secret)) for secret in secrets]
    return any(matches)


def sign(body: bytes, secret: bytes) -> bytes:
    """The header's value."""
    return b"sha256=" + hmac.digest(secret, body, "sha256").hex().encode()
