from hypothesis import given
from hypothesis import strategies as st

from services.webhook.signature import is_signed, sign

BODY, SECRET = b"Hello, World!", b"It's a Secret to Everybody"
SIGNATURE = b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_githubs_own_example_is_signed() -> None:
    assert is_signed(BODY, SIGNATURE, [SECRET])


def test_during_a_rotation_either_secret_will_do() -> None:
    assert is_signed(BODY, SIGNATURE, [b"new", SECRET])
    assert is_signed(BODY, sign(BODY, b"new"), [b"new", SECRET])


def test_nothing_is_signed_without_a_secret() -> None:
    assert not is_signed(BODY, SIGNATURE, [])


def test_another_body_or_algorithm_is_refused() -> None:
    assert not is_signed(BODY + b" ", SIGNATURE, [SECRET])
    assert not is_signed(BODY, SIGNATURE.removeprefix(b"sha256="), [SECRET])
    assert not is_signed(BODY, b"sha1=" + SIGNATURE.removeprefix(b"sha256="), [SECRET])


@given(st.binary(max_size=100))
def test_any_bytes_in_the_header_are_refused_without_an_error(header: bytes) -> None:
    assert not is_signed(BODY, header, [SECRET])
