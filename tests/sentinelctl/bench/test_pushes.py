import hashlib
import hmac
import json

from sentinelctl.bench.pushes import signed_pushes


def test_each_request_is_whole_signed_and_of_its_own_repository() -> None:
    requests = signed_pushes("s3cret", 5)
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
    assert len(repositories) == 5


def test_a_body_is_as_large_as_the_ceilings_were_measured_with() -> None:
    assert {len(request.tail) // 100 for request in signed_pushes("s3cret")} == {16}
