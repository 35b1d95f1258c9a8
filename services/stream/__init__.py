"""The log: opened here by its kind, so that no service knows which one it has."""

from pathlib import Path

from services.settings import StreamSettings
from services.stream.base import Admin, Consumer, Producer
from services.stream.sqlite import SqliteAdmin, SqliteConsumer, SqliteProducer


def open_producer(settings: StreamSettings, path: Path) -> Producer:
    """`path`: Settings.stream_path. Nothing is opened before the first append."""
    return SqliteProducer(path, settings)


def open_consumer(settings: StreamSettings, path: Path, *, group: str, topic: str) -> Consumer:
    """A member of `group` on `topic`; it joins with its first poll."""
    return SqliteConsumer(path, settings, group=group, topic=topic)


def open_admin(settings: StreamSettings, path: Path) -> Admin:
    return SqliteAdmin(path, settings)
