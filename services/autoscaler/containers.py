"""Replicas as containers: clones the one that is there to go up, drains the highest number to go down.

Whoever speaks to the engine is root on its host. So everything here starts from a list of what carries the project's
label, and nothing else is ever named to the engine.
"""

import asyncio
import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.autoscaler.replicas import Counts, Replica, Unseen, looping
from services.contract import Label, Variable

if TYPE_CHECKING:
    import docker

log = structlog.get_logger(__name__)

_CALL_S: Final = 30
_GRACE_S: Final = 15
_STEADY_S: Final = 10.0  # the engine counts restarts anew after a run this long
_RUNS: Final = ("running", "restarting")


class DockerActor:
    """Of one project on one engine, next to commands that change the same containers: one of them at a time."""

    def __init__(self, engine: "docker.APIClient", project: str, asked: Counts, lock: Path) -> None:
        self._engine, self._project, self._counts, self._lock = engine, project, asked, lock
        self._draining: dict[str, asyncio.Task[None]] = {}

    async def replicas(self, service: str) -> Sequence[Replica]:
        return await asyncio.to_thread(self._replicas, service)

    def _replicas(self, service: str) -> list[Replica]:
        with _told("listing containers"):
            listed = [one for one in self._listed(service) if one["State"] in _RUNS and one["Id"] not in self._draining]
            inspected = [self._engine.inspect_container(one["Id"]) for one in listed]
        return [_replica(about) for about in inspected]

    async def act(self) -> None:
        for service, count in self._counts.asked().items():
            if self._counts.by_hand(service):
                continue
            try:
                there = await asyncio.to_thread(self._by_number, service)
                if self._missing(there, count) or self._surplus(there, count):
                    with _alone(self._lock) as is_mine:
                        if is_mine and not self._counts.by_hand(service):  # a command may have ended in between
                            await self._step(service, count)
            except Unseen as exc:
                log.error("autoscaler.not_scaled", scaled=service, wanted=count, error=str(exc))

    async def _step(self, service: str, count: int) -> None:
        there = await asyncio.to_thread(self._by_number, service)
        for number in self._surplus(there, count):
            container = there[number]
            task = asyncio.create_task(self._drain(container), name=f"drain {service}-{number}")
            self._draining[container["Id"]] = task
        new = self._missing(there, count)
        await asyncio.gather(*(asyncio.to_thread(self._start, service, number, there) for number in new))

    def _missing(self, there: Mapping[int, Mapping[str, Any]], count: int) -> list[int]:
        """Numbers that nothing has, or only what was made and never started."""
        return [number for number in range(1, count + 1) if number not in there or there[number]["State"] == "created"]

    def _surplus(self, there: Mapping[int, Mapping[str, Any]], count: int) -> list[int]:
        return sorted((n for n, one in there.items() if n > count and one["Id"] not in self._draining), reverse=True)

    def _start(self, service: str, number: int, there: Mapping[int, Mapping[str, Any]]) -> None:
        name = f"{service}-{number}"
        with _told(f"starting {name}"):
            if made := there.get(number):
                self._engine.start(made["Id"])
            elif there:
                config = clone(self._engine.inspect_container(there[min(there)]["Id"]), number)
                create: Any = self._engine.create_container_from_config
                self._engine.start(create(config, f"{self._project}-{name}")["Id"])
            else:
                raise Unseen(f"{service} has no container to be cloned; `sentinelctl up` starts one")
        log.info("autoscaler.started_replica", replica=name)

    async def _drain(self, container: Mapping[str, Any]) -> None:
        name = f"{container['Labels'][Label.SERVICE]}-{container['Labels'][Label.REPLICA]}"
        try:
            await asyncio.to_thread(self._end, container, name)
        except Unseen as exc:
            log.error("autoscaler.not_drained", replica=name, error=str(exc))
        finally:
            del self._draining[container["Id"]]

    def _end(self, container: Mapping[str, Any], name: str) -> None:
        from docker.errors import NotFound

        grace_s = int(container["Labels"].get(Label.GRACE_S, _GRACE_S))
        with _told(f"draining {name}"), contextlib.suppress(NotFound):
            self._engine.stop(container["Id"], timeout=grace_s)
            how = self._engine.inspect_container(container["Id"])["State"]["ExitCode"]
            self._engine.remove_container(container["Id"])
            log.info("autoscaler.drained_replica", replica=name, exit_code=how)

    def _by_number(self, service: str) -> dict[int, dict[str, Any]]:
        with _told("listing containers"):
            return {int(one["Labels"][Label.REPLICA]): one for one in self._listed(service)}

    def _listed(self, service: str) -> list[dict[str, Any]]:
        """Every container of the project's service that has a number."""
        labels = [f"{Label.PROJECT}={self._project}", f"{Label.SERVICE}={service}"]
        found: list[dict[str, Any]] = self._engine.containers(all=True, filters={"label": labels})
        return [one for one in found if one["Labels"].get(Label.REPLICA, "").isdecimal()]

    async def close(self) -> None:
        await asyncio.gather(*self._draining.values())
        self._engine.close()


def clone(about: Mapping[str, Any], number: int) -> dict[str, Any]:
    """What makes the engine start the same container once more, from what it says of one: same image, environment,
    mounts, limits and network, another number, and free ports of the host."""
    config, host = about["Config"], about["HostConfig"]
    service = config["Labels"][Label.SERVICE]
    name = f"{service}-{number}"
    env = [line for line in config["Env"] if not line.startswith(f"{Variable.REPLICA}=")]
    free = {
        inside: [{"HostIp": one["HostIp"], "HostPort": ""} for one in bound or ()]
        for inside, bound in (host["PortBindings"] or {}).items()
    }
    return {
        **config,
        "Image": about["Image"],  # by its id: the name may mean another one by now
        "Env": [*env, f"{Variable.REPLICA}={name}"],
        "Labels": {**config["Labels"], Label.REPLICA: str(number)},
        "HostConfig": {**host, "PortBindings": free},
        "NetworkingConfig": {"EndpointsConfig": {host["NetworkMode"]: {"Aliases": [service, name]}}},
    }


def _replica(about: Mapping[str, Any]) -> Replica:
    labels, state, restarts = about["Config"]["Labels"], about["State"], about["RestartCount"]
    name = f"{labels[Label.SERVICE]}-{labels[Label.REPLICA]}"
    port = json.loads(labels[Label.PORTS])["metrics"]
    ran_s = time.time() - datetime.fromisoformat(state["StartedAt"][:19]).replace(tzinfo=UTC).timestamp()
    failures = restarts if state["Status"] == "restarting" or ran_s < _STEADY_S else 0
    return Replica(name, f"http://{name}:{port}/ready", looping(name, failures, f"exit {state['ExitCode']}"))


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[bool]:
    """False while a command of `sentinelctl` changes something."""
    try:
        file = lock.open("rb")
    except OSError as exc:
        raise Unseen(f"{lock}, by which commands and the autoscaler take turns, cannot be read: {exc}") from exc
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextlib.contextmanager
def _told(doing: str) -> Iterator[None]:
    """The SDK's errors as ours."""
    from docker.errors import DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except (DockerException, RequestException, OSError) as exc:
        raise Unseen(f"{doing}: the Docker engine: {exc}") from exc


def connect(address: str) -> "docker.APIClient":
    """Raises Unseen."""
    with _told(f"asking {address}"):
        import docker

        return docker.APIClient(address, timeout=_CALL_S)
