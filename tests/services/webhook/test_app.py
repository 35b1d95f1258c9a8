import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentinel.v1.events_pb2 import Event

from services.contract import NULL_SHA
from services.telemetry import Metrics
from services.webhook.app import Receiver, traceparent
from services.webhook.signature import sign
from services.webhook.writer import Writer
from tests.services.spans import PARENT, TRACE, TRACEPARENT, Collected, id_of, parent_of
from tests.services.webhook import payloads
from tests.services.webhook.fakes import (
    MAX_BODY_BYTES,
    PREVIOUS,
    RECEIVED_AT_NS,
    SECRET,
    Log,
    Memory,
    Site,
    unavailable,
)


async def raw(
    receiver: Receiver, headers: dict[bytes, bytes], messages: list[dict[str, Any]]
) -> tuple[int | None, int]:
    """(status or None when nothing was answered, messages left unread)."""
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await receiver({"type": "http", "headers": list(headers.items())}, receive, send)
    return sent[0]["status"] if sent else None, len(messages)


async def test_an_accepted_delivery_is_in_the_log_before_it_is_answered(site: Site) -> None:
    answer = await site.deliver("push", payloads.push())
    assert answer.status_code == 202
    assert answer.json() == {"status": "accepted", "reason": "", "delivery_id": "d-1"}
    (record,) = site.log.records
    assert (record.topic, record.key) == ("push-events", b"1296269")
    assert record.headers["delivery-id"] == b"d-1"
    event = Event.FromString(record.value)
    assert (event.delivery_id, event.received_at_ns) == ("d-1", RECEIVED_AT_NS)
    assert event.push.after == payloads.AFTER
    assert site.count("sentinel_webhook_received_total", status="accepted") == 1


async def test_a_redelivery_is_a_duplicate_and_appended_once(site: Site) -> None:
    await site.deliver("pull_request", payloads.pull_request())
    answer = await site.deliver("pull_request", payloads.pull_request())
    assert (answer.status_code, answer.json()["status"]) == (202, "duplicate")
    assert len(site.log.records) == 1
    await site.receiver.close()
    assert site.claims.kept_s == 60.0
    assert site.count("sentinel_delivery_ended_total", outcome="duplicate") == 1


async def test_a_delivery_is_remembered_only_once_the_log_has_it(site: Site) -> None:
    site.log.fault = unavailable()
    answer = await site.deliver("push", payloads.push())
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["status"] == "unavailable"
    assert site.claims.values == {}
    assert site.count("sentinel_bus_errors_total", topic="push-events", operation="append") == 1

    appended_at_put: list[int] = []
    site.log.fault, site.claims.at_put = None, lambda: appended_at_put.append(len(site.log.records))
    assert (await site.deliver("push", payloads.push())).json()["status"] == "accepted"
    await site.receiver.close()
    assert appended_at_put == [1]


async def test_without_the_claims_a_delivery_is_still_taken(site: Site) -> None:
    site.claims.is_lost = True
    assert (await site.deliver("push", payloads.push())).json()["status"] == "accepted"
    assert len(site.log.records) == 1


async def test_a_ping_is_answered(site: Site) -> None:
    answer = await site.deliver("ping", {"zen": "Keep it logically awesome."})
    assert (answer.status_code, answer.json()["status"]) == (200, "pong")


async def test_what_is_ignored_says_why_and_reaches_no_log(site: Site) -> None:
    for event, payload, reason in (
        ("push", payloads.push(after=NULL_SHA, deleted=True), "branch_deleted"),
        ("push", payloads.push(ref="refs/tags/v1"), "tag"),
        ("pull_request", payloads.pull_request(draft=True), "draft"),
        ("pull_request", payloads.pull_request("closed"), "action_not_reviewed"),
        ("star", {}, "event_not_reviewed"),
    ):
        answer = await site.deliver(event, payload)
        assert (answer.status_code, answer.json()["status"], answer.json()["reason"]) == (202, "ignored", reason)
    assert site.log.records == []
    assert site.count("sentinel_delivery_ended_total", outcome="ignored") == 5


@pytest.mark.parametrize("signature", [b"", b"sha256=", b"sha256=" + b"0" * 64, "sha256=ü".encode(), b"\xff\x80"])
async def test_a_wrong_or_missing_signature_is_refused_before_anything_is_read(site: Site, signature: bytes) -> None:
    headers = {b"x-hub-signature-256": signature} if signature else {}
    answer = await site.client.post("/webhook", content=b"[", headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (401, "unauthorized")


async def test_the_secret_before_a_rotation_is_still_taken(site: Site) -> None:
    assert (await site.deliver("push", payloads.push(), secret=PREVIOUS)).status_code == 202
    assert (await site.deliver("push", payloads.push(), secret=b"neither")).status_code == 401


@pytest.mark.parametrize("secrets", [[], [b""], [b"present", b""]])
def test_a_receiver_without_a_secret_cannot_be_made(secrets: list[bytes]) -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        Receiver(Writer(Log(), Memory(), keep_s=1.0), Metrics(), secrets, max_body_bytes=1)


async def test_a_body_declared_too_large_is_refused_unread(site: Site) -> None:
    chunks = [{"type": "http.request", "body": b"x", "more_body": False}]
    headers = {b"content-length": str(MAX_BODY_BYTES + 1).encode()}
    assert await raw(site.receiver, headers, chunks) == (413, 1)


async def test_a_body_that_grows_too_large_is_refused_at_the_limit(site: Site) -> None:
    chunk = {"type": "http.request", "body": b"x" * 40_000, "more_body": True}
    assert await raw(site.receiver, {}, [chunk] * 10) == (413, 7)


async def test_a_body_of_exactly_the_limit_is_read(site: Site) -> None:
    body = b"x" * MAX_BODY_BYTES
    chunks = [{"type": "http.request", "body": body, "more_body": False}]
    assert await raw(site.receiver, {b"x-hub-signature-256": sign(body, PREVIOUS)}, chunks) == (400, 0)


async def test_a_sender_that_hangs_up_is_not_answered(site: Site) -> None:
    chunks: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert await raw(site.receiver, {}, chunks) == (None, 0)


@pytest.mark.parametrize("missing", ["x-github-event", "x-github-delivery"])
async def test_githubs_headers_are_needed(site: Site, missing: str) -> None:
    answer = await site.deliver("push", payloads.push(), headers={missing: ""})
    assert answer.status_code == 400
    assert missing in answer.json()["reason"].lower()


async def test_a_form_is_refused_with_what_to_change(site: Site) -> None:
    answer = await site.deliver(
        "push", b"payload=%7B%7D", headers={"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.status_code == 400
    assert "application/json" in answer.json()["reason"]


async def test_a_refused_payload_names_its_field(site: Site) -> None:
    answer = await site.deliver("push", payloads.push(after=None))
    assert answer.status_code == 400
    assert answer.json() == {"status": "invalid", "reason": "after is null, not a string", "delivery_id": "d-1"}
    assert site.log.records == []


async def test_the_senders_trace_is_continued(site: Site) -> None:
    theirs = f"00-{'1' * 32}-{'2' * 16}-00"
    await site.deliver("push", payloads.push(), headers={"traceparent": theirs})
    version, trace, parent, flags = site.log.records[0].headers["traceparent"].decode().split("-")
    assert (version, trace, flags) == ("00", "1" * 32, "00")
    assert parent != "2" * 16


@pytest.mark.parametrize("theirs", [TRACEPARENT, "", "\xff"])
async def test_with_a_collector_the_record_lies_below_the_span_of_its_delivery(theirs: str) -> None:
    collected, log = Collected(), Log()
    writer = Writer(log, Memory(), keep_s=60)
    receiver = Receiver(writer, Metrics(), [SECRET], max_body_bytes=MAX_BODY_BYTES, tracing=collected.tracing)
    body = json.dumps(payloads.push()).encode()
    headers = {
        b"x-github-event": b"push",
        b"x-github-delivery": b"d-1",
        b"x-hub-signature-256": sign(body, SECRET),
        b"traceparent": theirs.encode("latin-1"),
    }
    assert await raw(receiver, headers, [{"type": "http.request", "body": body}]) == (202, 0)
    await receiver.close()
    span = collected.spans()["push receive"]
    _, trace, parent, _ = log.records[0].headers["traceparent"].decode().split("-")
    assert parent == id_of(span)
    assert trace == f"{span.get_span_context().trace_id:032x}"
    assert (parent_of(span), trace == TRACE) == ((PARENT, True) if theirs == TRACEPARENT else ("", False))


async def test_a_delivery_that_the_log_does_not_take_fails_its_span() -> None:
    collected, log = Collected(), Log()
    log.fault = unavailable()
    writer = Writer(log, Memory(), keep_s=60)
    receiver = Receiver(writer, Metrics(), [SECRET], max_body_bytes=MAX_BODY_BYTES, tracing=collected.tracing)
    body = json.dumps(payloads.push()).encode()
    headers = {b"x-github-event": b"push", b"x-github-delivery": b"d-1", b"x-hub-signature-256": sign(body, SECRET)}
    assert await raw(receiver, headers, [{"type": "http.request", "body": body}]) == (503, 0)
    assert collected.spans()["push receive"].status.description == "not_appended"


def test_the_counters_that_alerts_watch_begin_at_0(site: Site) -> None:
    value = site.metrics.registry.get_sample_value
    assert value("sentinel_bus_errors_total", {"topic": "push-events", "operation": "append"}) == 0
    assert value("sentinel_webhook_received_total", {"status": "unavailable"}) == 0


@pytest.mark.parametrize(
    "header",
    [b"", b"\xff", b"00-" + b"0" * 32 + b"-" + b"2" * 16 + b"-01", b"ff-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01"],
)
def test_without_a_valid_trace_a_new_one_begins(header: bytes) -> None:
    made = traceparent(header)
    assert traceparent(made)[:35] == made[:35]
    assert made[3:35] not in (b"0" * 32, b"1" * 32)


async def test_many_deliveries_wait_for_the_log_together(site: Site) -> None:
    """The floor blocked its event loop for each acknowledgement: health waited behind the broker."""
    gate = asyncio.Event()
    append = site.log.append

    async def slow(records: Any) -> Any:
        await gate.wait()
        return await append(records)

    site.log.append = slow  # type: ignore[method-assign]
    deliveries = [
        asyncio.create_task(site.deliver("push", payloads.push(), delivery_id=f"d-{number}")) for number in range(20)
    ]
    assert (await site.client.get("/health")).status_code == 200
    gate.set()
    assert {answer.status_code for answer in await asyncio.gather(*deliveries)} == {202}
    assert len(site.log.records) == 20


async def test_ready_says_whether_the_log_takes_records(site: Site) -> None:
    assert (await site.client.get("/ready")).status_code == 200
    site.is_ready = False
    assert (await site.client.get("/ready")).status_code == 503
    assert (await site.client.get("/health")).status_code == 200


async def test_metrics_have_bounded_labels(site: Site) -> None:
    await site.deliver("push", payloads.push())
    scraped = (await site.client.get("/metrics")).text
    assert 'sentinel_webhook_received_total{status="accepted"} 1.0' in scraped
    assert "octocat" not in scraped


async def test_only_post_reaches_the_receiver(site: Site) -> None:
    assert (await site.client.get("/webhook")).status_code == 405


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    st.binary(max_size=60), st.sampled_from(["push", "pull_request", "ping", "ü", "x" * 300]), st.binary(max_size=40)
)
async def test_no_signed_body_and_no_header_is_an_error_of_ours(
    site: Site, body: bytes, event: str, delivery_id: bytes
) -> None:
    headers = {
        b"x-github-event": event.encode(),
        b"x-github-delivery": delivery_id,
        b"x-hub-signature-256": sign(body, PREVIOUS),
    }
    status, _ = await raw(site.receiver, headers, [{"type": "http.request", "body": body, "more_body": False}])
    assert status in (200, 202, 400)
