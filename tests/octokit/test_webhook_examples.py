"""Every example of every event that GitHub publishes is delivered to the receiver, signed."""

import json

from sentinel.v1.events_pb2 import Event

from services.codec import decode
from services.webhook.event import REVIEWED_ACTIONS
from tests.services.webhook.conftest import site as site
from tests.services.webhook.fakes import Site

from .material import Material


async def test_every_published_example_is_taken_or_ignored_and_none_is_an_error(material: Material, site: Site) -> None:
    events = json.loads(material.examples.read_bytes())
    examples = [(event["name"], example) for event in events for example in event["examples"]]
    assert len(examples) > 300
    answered: dict[str, int] = {}
    for number, (name, payload) in enumerate(examples):
        answer = await site.deliver(name, payload, delivery_id=f"example-{number}")
        assert answer.status_code in (200, 202), f"{name} {payload.get('action')}: {answer.text}"
        answered[answer.json()["status"]] = answered.get(answer.json()["status"], 0) + 1
        is_taken = (name == "push" and _is_reviewed_push(payload)) or (
            name == "pull_request" and payload["action"] in REVIEWED_ACTIONS and not payload["pull_request"]["draft"]
        )
        assert (answer.json()["status"] == "accepted") == is_taken, f"{name} {payload.get('action')}: {answer.text}"
    assert answered.keys() == {"accepted", "ignored", "pong"}
    taken = [decode(Event, record.value) for record in site.log.records]
    assert {event.WhichOneof("kind") for event in taken} == {"push", "pull_request"}
    assert all(event.repository.full_name and event.repository.default_branch for event in taken)


def _is_reviewed_push(payload: dict[str, object]) -> bool:
    return str(payload["ref"]).startswith("refs/heads/") and not payload["deleted"]
