"""The Kafka broker that SENTINEL_TEST_KAFKA=HOST:PORT names, without a login; each test has a prefix of its own."""

import os
from typing import Final

from services.settings import StreamSettings

BROKER: Final = os.environ.get("SENTINEL_TEST_KAFKA", "")
LEAST_LEASE_S: Final = 6  # of a broker that nobody configured


def delete_topics(settings: StreamSettings) -> None:
    """All under its prefix."""
    from kafka import KafkaAdminClient

    client = KafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        client.delete_topics([name for name in client.list_topics() if name.startswith(settings.prefix)])
    finally:
        client.close()
