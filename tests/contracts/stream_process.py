"""A process with a producer and a consumer of its own, told what to do on stdin, answering in JSON lines.

One command a line: append COUNT PREFIX | append-forever | consume-forever | poll | commit | limit BYTES
"""

import asyncio
import json
import resource
import sys
from pathlib import Path

from services.errors import BusUnavailable
from services.settings import StreamSettings
from services.stream import open_consumer, open_producer
from services.stream.types import NewRecord, TopicPartition


def say(**answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def main(settings: StreamSettings, path: Path, member: str) -> None:
    producer = open_producer(settings, path)
    consumer = open_consumer(settings, path, group="group", topic="topic", member=member)
    positions: dict[TopicPartition, int] = {}

    async def append(value: str) -> None:
        try:
            await producer.append([NewRecord("topic", value[-1:].encode(), value.encode())])
            say(appended=value)
        except BusUnavailable as exc:
            say(refused=str(exc))

    async def poll(timeout_s: float) -> None:
        records = await consumer.poll(max_records=1000, timeout_s=timeout_s)
        for record in records:
            positions[record.position] = record.offset + 1
        say(polled=[record.value.decode() for record in records], owned=len(consumer.assignment()))

    while line := await asyncio.to_thread(sys.stdin.readline):
        match line.split():
            case ["append", count, prefix]:
                await asyncio.gather(*(append(f"{prefix}-{number}") for number in range(int(count))))
            case ["append-forever"]:
                number = 0
                while True:
                    await asyncio.gather(*(append(f"forever-{number + step}") for step in range(7)))
                    number += 7
            case ["consume-forever"]:
                while True:
                    await poll(0.1)
                    await consumer.commit(positions)
            case ["poll"]:
                await poll(0.1)
            case ["commit"]:
                await consumer.commit(positions)
                say(committed=True)
            case ["limit", size]:
                resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
                say(limited=True)
    await consumer.close()
    await producer.close()


if __name__ == "__main__":
    asyncio.run(main(StreamSettings.model_validate_json(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
