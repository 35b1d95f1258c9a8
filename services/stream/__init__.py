"""The log: opened here by its kind, so that no service knows which one it has."""

from pathlib import Path

from services.settings import StreamSettings
from services.stream.base import Admin, Consumer, Producer
from services.stream.sqlite import SqliteAdmin, SqliteConsumer, SqliteProducer

# kafka-python is imported by those who use it: it takes as long as all the rest of a start.


def open_producer(settings: StreamSettings, path: Path, *, can_redo: bool = False, on_thread: bool = True) -> Producer:
    """`path`: Settings.stream_path. Nothing is opened before the first append.

    can_redo: every append follows from a record of the same log, whose offset is committed after it. A power cut that
    takes the append then takes the commit, too, and the record is read again: so the append need not wait for a disk.
    on_thread: SQLite has a thread of its own; else the event loop waits for it, which suits a process that does nothing
    else.
    """
    if settings.kind == "kafka":
        from services.stream.kafka import KafkaProducer

        return KafkaProducer(settings)
    return SqliteProducer(path, settings, can_redo=can_redo, on_thread=on_thread)


def open_consumer(settings: StreamSettings, path: Path, *, group: str, topic: str, member: str = "") -> Consumer:
    """A member of `group` on `topic`; it joins with its first poll.

    member: a name that is this replica's alone and the same after a restart, where it has one.
    """
    if settings.kind == "kafka":
        from services.stream.kafka import KafkaConsumer

        return KafkaConsumer(settings, group=group, topic=topic, member=member)
    return SqliteConsumer(path, settings, group=group, topic=topic)


def open_admin(settings: StreamSettings, path: Path) -> Admin:
    if settings.kind == "kafka":
        from services.stream.kafka import KafkaAdmin

        return KafkaAdmin(settings)
    return SqliteAdmin(path, settings)
