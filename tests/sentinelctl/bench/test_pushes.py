import hashlib
import hmac
import json

import pytest

from sentinelctl.bench.pushes import BODY_BYTES, LEAST_BODY_BYTES, signed_pushes


def test_each_request_is_whole_signed_and_of_its_own_repository() -> None:
    requests = signed_pushes("s3cret", 1600)
    repositories = set()
    for request in requests:
        head, _, body = request.raw("d-1").partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
        assert line == "POST /webhook HTTP/1.1"
        assert headers["x-github-delivery"] == "d-1"
        assert int(headers["content-length"]) == len(body)
        signature = hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()
        assert headers["x-hub-signature-256"] == f"sha256={signature}"
        repositories.add(json.loads(body)["repository"]["id"])
    assert len(repositories) == len(requests)


@pytest.mark.parametrize("size", [LEAST_BODY_BYTES, 1600, BODY_BYTES, 100_000])
def test_a_body_has_the_size_that_was_asked_for(size: int) -> None:
    assert {len(request.tail.removeprefix("\r\n\r\n")) for request in signed_pushes("s3cret", size)} == {size}
