"""A receiver for a measurement alone, over a log of its own: on the installation's disk, or in a Kafka."""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

from pydantic import SecretStr

from sentinelctl.errors import PreflightError
from sentinelctl.lifecycle import Project
from sentinelctl.state import Replica
from services.contract import Group, Topic
from services.errors import BusUnavailable
from services.settings import Settings
from services.stream import open_admin

_SYNCS: Final = 100


def alone(settings: Settings, folder: Path, secret: str, log: str) -> Settings:
    """The same settings for a receiver on a free port of this machine, over a log and claims in `folder`."""
    own: dict[str, dict[str, Any]] = {
        "project": {"state_dir": str(folder), "runtime": "embedded"},
        "stream": {"kind": log, "path": "", "prefix": f"{settings.stream.prefix}{folder.name}."},
        "claims": {"kind": "sqlite", "path": ""},
        "webhook": {"bind": "127.0.0.1", "port": 0, "secret": SecretStr(secret), "secret_previous": SecretStr("")},
    }
    return settings.model_copy(
        update={section: getattr(settings, section).model_copy(update=changed) for section, changed in own.items()}
    )


@contextlib.contextmanager
def running_receiver(project: Project) -> Iterator[Replica]:
    try:
        (replica,) = project.bring_up(("webhook",)).of("webhook")
        yield replica
    finally:
        project.take_down()
        project.runtime.close()


@contextlib.contextmanager
def own_topics(settings: Settings, more: Mapping[str, int] | None = None) -> Iterator[None]:
    """Those in `more` (name to partitions), and none of all under the prefix left in a Kafka afterwards.

    Raises PreflightError where the broker does not answer.
    """
    if settings.stream.kind != "kafka":
        yield
        return
    from services.stream.kafka import KafkaAdmin

    async def ask(*, create: Mapping[str, int] | None = None) -> None:
        admin = KafkaAdmin(settings.stream)
        try:
            if create is None:
                await admin.delete_topics(await admin.topics())
            elif create:
                await admin.create_topics(dict(create))
            else:
                await admin.topics()
        finally:
            await admin.close()

    try:
        asyncio.run(ask(create=more or {}))
    except BusUnavailable as exc:
        raise PreflightError(str(exc), remedy="`sentinelctl doctor` looks at the log") from exc
    try:
        yield
    finally:
        asyncio.run(ask())


def fsync_p50_ms(folder: Path) -> float:
    """Of pages written one after the other into a file that is there already, as a log does."""
    sync = getattr(os, "fdatasync", os.fsync)
    took = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        file.write(bytes(_SYNCS * 4096))
        sync(file.fileno())
        file.seek(0)
        for _ in range(_SYNCS):
            file.write(b"x" * 4096)
            began = time.perf_counter()
            sync(file.fileno())
            took.append(time.perf_counter() - began)
    return median(took) * 1000


async def records(settings: Settings) -> int:
    """How many events the log holds."""
    admin = open_admin(settings.stream, settings.stream_path)
    try:
        return sum(lag.end for lag in await admin.lag(Group.EXTRACTOR, Topic.PUSH_EVENTS))
    finally:
        await admin.close()
