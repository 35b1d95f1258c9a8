"""The reference's scenario, for people who use Locust: 50 users who push, each push signed as GitHub signs it.

    export SENTINEL_WEBHOOK_SECRET=…    # the receiver's
    locust -f tests/load/locustfile.py --headless -u 50 -r 50 -t 60s --host http://127.0.0.1:8000

Whatever stands behind that receiver gets every push as a real one. Locust's loop is closed: a user waits for its answer
before its next push, so a receiver that stands still is sent less, and the percentiles hide it. `sentinelctl bench
webhook` counts from the time at which a push was due.
"""

import os
import random
import uuid

from locust import FastHttpUser, between, task

from sentinelctl.bench.pushes import BODY_BYTES, push_body
from sentinelctl.fakehub.hooks import sign

SECRET = os.environ["SENTINEL_WEBHOOK_SECRET"]
REPOSITORIES = 64


class GitHub(FastHttpUser):
    wait_time = between(0.1, 0.6)

    @task
    def push(self) -> None:
        body = push_body(random.randint(1, REPOSITORIES), BODY_BYTES).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/0000000",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-Hub-Signature-256": sign(SECRET, body),
        }
        with self.client.post("/webhook", data=body, headers=headers, catch_response=True) as answer:
            if answer.status_code != 202:
                answer.failure(f"{answer.status_code}: {answer.text[:200]}")
