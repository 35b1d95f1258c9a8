"""observe → plan → apply for one installation, as commands and the demo call it."""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sentinelctl import containers
from sentinelctl.catalog import SCALED, SERVICES, catalog, configured
from sentinelctl.errors import PreflightError, UnhealthyError, UsageError
from sentinelctl.plan import plan, plan_down, plan_restart
from sentinelctl.readiness import wait_ready
from sentinelctl.runtime.base import Applied, Progress, Runtime, unseen
from sentinelctl.runtime.embedded import EmbeddedRuntime
from sentinelctl.runtime.engine import address_of, is_local
from sentinelctl.runtime.statefile import StateDir
from sentinelctl.state import Kind, ObservedState, Operation, Plan, ServiceSpec
from services.contract import Role, Topic
from services.counts import read_counts, write_counts

if TYPE_CHECKING:
    from services.settings import Settings

READY_S: Final = 60.0
_ONCE: Final = {
    "webhook": "has one address that GitHub knows",
    "autoscaler": "would undo what another one does",
    "prometheus": "keeps its data in one folder",
}


class Project:
    """One installation: its settings, its state folder and the runtime that runs it."""

    def __init__(self, settings: "Settings", why: str = "") -> None:
        """`why`: this runtime was chosen, where somebody might wonder."""
        self.settings = settings
        self.state_dir = StateDir(settings.state_dir.absolute())
        self.runtime: Runtime = _runtime(settings, self.state_dir)
        self.is_docker = self.runtime.name == "docker"
        because = f" ({why})" if why else ""
        self.headline = f"runtime: {self.runtime.name}{because}, state in {self.state_dir.path}"

    @property
    def services(self) -> tuple[str, ...]:
        """By name, in start order."""
        if not self.is_docker:
            return SERVICES
        return (*containers.servers(self.settings), *SERVICES, containers.GRAFANA)

    def locked(self) -> AbstractContextManager[None]:
        """Held by every command that changes something."""
        return self.state_dir.locked()

    def desired(self) -> tuple[ServiceSpec, ...]:
        """Raises PreflightError when the state folder, which remembers a scale, cannot be used."""
        self.state_dir.require()
        return self._catalog(self._scale())

    def _catalog(self, scale: Mapping[str, int]) -> tuple[ServiceSpec, ...]:
        specs = catalog(self.settings, digest_key=_kept(self.state_dir.digest_key), scale=scale)
        if not self.is_docker:
            return specs
        return containers.contained(self.settings, specs, password=_kept(self.state_dir.grafana_password).decode())

    def _complete(self, found: Plan) -> Plan:
        """With what its operations need. Raises PreflightError when it cannot work."""
        whole = Plan((*self.runtime.needs(found), *found.operations))
        self.runtime.check(whole)
        return whole

    def plan_up(self, only: Collection[str] | None = None) -> Plan:
        """Raises PreflightError when a secret is missing, a port is taken or the claims are out of reach."""
        if self.is_docker and self.settings.autoscaler.is_on and not is_local(address_of(self.settings.docker.host)):
            raise PreflightError(
                "autoscaler.enabled is set, and the engine is on another machine: what it decides lies in the state "
                "folder, which that machine does not see",
                remedy="run sentinelctl over there, or take it out and use `sentinelctl scale`",
            )
        desired = self.runtime.resolve(self.desired())
        wanted = [spec for spec in desired if only is None or spec.name in only]
        names = {spec.name for spec in wanted if spec.replicas}
        check_secrets(self.settings, names)
        keeps_claims = bool(names & {Role.EXTRACTOR.value, Role.PUBLISHER.value, Role.WEBHOOK.value})
        if keeps_claims and not (self.is_docker and containers.has_own_redis(self.settings)):
            check_claims(self.settings)
        return self._complete(plan(desired, self.runtime.observe(), only=only))

    def plan_restart(self, services: Collection[str]) -> Plan:
        """Raises PreflightError as `plan_up` does: the present settings may name another port than the running ones."""
        check_secrets(self.settings, services)
        return self._complete(plan_restart(self.runtime.resolve(self.desired()), self.runtime.observe(), services))

    def plan_scale(self, replicas: Mapping[str, int]) -> Plan:
        """Also of services that do not run yet. Raises UsageError for a count that cannot be."""
        desired = self.runtime.resolve(self._catalog({**self._scale(), **replicas}))
        if servers := replicas.keys() - set(SERVICES):
            raise UsageError(
                f"{', '.join(servers)}: one node each is all that `up` runs",
                remedy="a cluster of your own is used by stream.bootstrap and claims.url",
            )
        for spec in desired:
            if spec.name in SERVICES and spec.max_replicas is not None and spec.replicas > spec.max_replicas:
                raise UsageError(
                    f"{spec.name} {_ONCE[spec.name]}, so it runs once; asked for: {spec.replicas}",
                    remedy="scale another service",
                )
        check_secrets(self.settings, [name for name, count in replicas.items() if count])
        return self._complete(plan(desired, self.runtime.observe(), only=replicas.keys()))

    def remember_scale(self, replicas: Mapping[str, int]) -> None:
        """Until `down`, or until the settings ask for another count than they do now."""
        self._keep_scale({**self.scaled_by_hand(), **replicas})

    def scaled_by_hand(self) -> dict[str, int]:
        """Counts that an operator asked for and that hold: the autoscaler leaves these services alone."""
        return read_counts(self.state_dir.scale, configured(self.settings))

    def hand_back(self, services: Collection[str]) -> None:
        """To the autoscaler, or to the settings where there is none."""
        self._keep_scale({name: count for name, count in self.scaled_by_hand().items() if name not in services})

    def _keep_scale(self, replicas: Mapping[str, int]) -> None:
        write_counts(self.state_dir.scale, replicas, configured(self.settings))

    def plan_down(self, *, with_volumes: bool = False) -> Plan:
        stops = plan_down(self.services, self.runtime.observe())
        return Plan((*stops.operations, *self.runtime.leftovers(with_volumes=with_volumes)))

    def apply(
        self,
        found: Plan,
        *,
        ready_s: float | None = READY_S,
        report: Callable[[Operation, Applied], None] = lambda _operation, _applied: None,
        progress: Progress = unseen,
    ) -> None:
        """`ready_s`: longest wait for readiness; None does not wait.

        What is replaced, and what others stand on, is ready before the next is touched; what is started is started and
        waited for together, and what is stopped of one service is drained together. Raises UnhealthyError, with the
        evidence, also for a replica that had to be killed (after everything else is done).
        """
        started: list[str] = []
        killed: list[str] = []
        for operation, applied in self._applied(found, progress):
            report(operation, applied)
            killed += [operation.replica] if applied.was_killed else []
            is_gate = operation.spec is not None and operation.spec.is_gate
            if is_gate and operation.index:
                wait_ready(self.runtime, [operation.replica], ready_s if ready_s is not None else READY_S)
            elif operation.kind is Kind.REPLACE and ready_s is not None:
                wait_ready(self.runtime, [operation.replica], ready_s)
            elif operation.kind in (Kind.START, Kind.ADOPT):
                started.append(operation.replica)
        if ready_s is not None:
            wait_ready(self.runtime, started, ready_s)
        if killed:
            raise UnhealthyError(
                f"{', '.join(killed)} did not end in time after SIGTERM and had to be killed; all else is done",
                remedy="nothing accepted is lost by that; `sentinelctl logs` says what it was busy with",
            )

    def _applied(self, found: Plan, progress: Progress) -> Iterator[tuple[Operation, Applied]]:
        """Each once it is done, in the plan's order."""
        lacks_topics = self._has_own_kafka
        for _, batch in groupby(found.operations, key=_together):
            operations = list(batch)
            spec = operations[0].spec if operations[0].index else None
            if lacks_topics and spec is not None and not spec.is_gate:
                asyncio.run(self._create_topics())
                lacks_topics = False
            apply = partial(self.runtime.apply, progress=progress)
            if len(operations) == 1 or self.runtime.at_once == 1:
                yield from ((one, apply(one)) for one in operations)
                continue
            threads = ThreadPoolExecutor(self.runtime.at_once)
            try:
                yield from zip(operations, threads.map(apply, operations), strict=True)
            finally:
                threads.shutdown(cancel_futures=True)

    def bring_up(
        self, only: Collection[str] | None = None, *, ready_s: float = READY_S, progress: Progress = unseen
    ) -> ObservedState:
        """For callers in this process, such as the demo: up, and ready."""
        with self.locked():
            self.prepare()
            self.apply(self.plan_up(only), ready_s=ready_s, progress=progress)
        return self.runtime.observe()

    def take_down(self, *, with_volumes: bool = False) -> None:
        """For callers in this process: nothing of it runs afterwards; data stays unless asked otherwise."""
        with self.locked():
            self.apply(self.plan_down(with_volumes=with_volumes))
            self.forget_scale()

    def forget_scale(self) -> None:
        """The operator's counts, and the autoscaler's."""
        self.state_dir.scale.unlink(missing_ok=True)
        self.state_dir.autoscale.unlink(missing_ok=True)

    def data_files(self) -> list[Path]:
        """All that `down --volumes` deletes: what Sentinel itself wrote, by name."""
        named = [self.settings.stream_path, self.settings.claims_path]
        found = [path.with_name(path.name + suffix) for path in named for suffix in ("", "-wal", "-shm")]
        for folder in (self.state_dir.logs, self.state_dir.endpoints):
            found += sorted(folder.iterdir()) if folder.is_dir() else []
        state = self.state_dir
        found += sorted(state.prometheus.rglob("*"))
        found += [state.scale, state.autoscale, state.decisions, state.targets, state.digest_key, state.supervisor_lock]
        found += [state.grafana_password]
        return [path for path in found if path.is_file()]

    def delete_data(self) -> list[Path]:
        """Returns what it deleted."""
        found = self.data_files()
        for path in found:
            path.unlink(missing_ok=True)
        state = self.state_dir
        within = sorted((path for path in state.prometheus.rglob("*") if path.is_dir()), reverse=True)
        for folder in (state.logs, state.endpoints, state.scaling, state.data, *within, state.prometheus):
            with contextlib.suppress(OSError):  # not there, or somebody keeps a file of their own in it
                folder.rmdir()
        return found

    def prepare(self) -> None:
        """Before the first plan that is applied: the state folder and the topics. Idempotent."""
        self.state_dir.create()
        _keep(self.state_dir.digest_key)
        if self.is_docker:
            containers.give(self.state_dir.scaling)
        if self.is_docker and containers.has_grafana(self.settings):
            _keep(self.state_dir.grafana_password)
        if self._has_own_kafka:  # its topics are made once it serves
            return
        folders = containers.volume_folders(self.settings) if self.is_docker else []
        for folder in folders:
            containers.own_folder(folder)
        asyncio.run(self._create_topics())
        for folder in folders:
            containers.own_files(folder)

    @property
    def _has_own_kafka(self) -> bool:
        return self.is_docker and containers.has_own_kafka(self.settings)

    async def _create_topics(self) -> None:
        from services.errors import BusUnavailable
        from services.stream import open_admin

        settings = self.settings
        admin = open_admin(settings.stream, settings.stream_path)
        try:
            if self.is_docker and not self._has_own_kafka:
                containers.check_brokers(await admin.brokers())
            await admin.create_topics({topic.value: settings.stream.partitions for topic in Topic})
            check_partitions(await admin.topics(), settings.stream.partitions)
        except BusUnavailable as exc:
            raise PreflightError(str(exc), remedy="`sentinelctl doctor` looks at the log, its folder and disk") from exc
        finally:
            await admin.close()

    def _scale(self) -> dict[str, int]:
        """An operator's counts over the autoscaler's."""
        found = {}
        if self.settings.autoscaler.is_on:
            kept = read_counts(self.state_dir.autoscale, configured(self.settings))
            found = {name: count for name, count in kept.items() if name in SCALED}
        return found | self.scaled_by_hand()


def _kept(path: Path) -> bytes:
    """A secret of the state folder; one that nobody keeps where nothing was started yet."""
    return path.read_bytes() if path.exists() else secrets.token_urlsafe(32).encode()


def _keep(path: Path) -> None:
    if not path.exists():
        secret = _kept(path)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secret)


def _together(operation: Operation) -> tuple[object, ...]:
    """Neighbours in a plan with the same answer are done side by side."""
    if operation.kind is Kind.START and operation.spec is not None and not operation.spec.is_gate:
        return (Kind.START,)
    return (Kind.STOP, operation.service) if operation.kind is Kind.STOP else (operation.kind, operation.replica)


def _runtime(settings: "Settings", state_dir: StateDir) -> Runtime:
    if settings.project.runtime != "docker":
        return EmbeddedRuntime(state_dir.path)
    from sentinelctl.runtime.docker import DockerRuntime

    own = {image.reference: image for image in containers.own_images(settings)}
    return DockerRuntime(
        settings.project.name,
        address_of(settings.docker.host),
        volumes=containers.volumes(settings),
        own=own,
        base=settings.images.python,
        min_free_gb=settings.docker.min_free_gb,
    )


def check_secrets(settings: "Settings", services: Collection[str]) -> None:
    """Raises PreflightError naming the missing secret and how to set it."""
    if "webhook" in services and not settings.webhook.secret.get_secret_value().strip():
        raise PreflightError(
            "no webhook secret is set, and without one anybody could send events",
            remedy='export SENTINEL_WEBHOOK_SECRET="$(openssl rand -hex 32)", and give GitHub the same; '
            "or SENTINEL_WEBHOOK_SECRET_FILE=PATH",
        )
    github = settings.github
    if not {"extractor", "publisher"} & set(services):
        return
    if github.app_id and not github.app_key.get_secret_value():
        raise PreflightError(
            f"github.app_id is {github.app_id}, but the App's private key is not set",
            remedy="export SENTINEL_GITHUB_APP_KEY_FILE=PATH of the .pem from the App's settings page",
        )
    if not github.app_id and not github.token.get_secret_value():
        raise PreflightError(
            f"no GitHub token is set, and neither service starts without one: {github.api_url} has to know who asks",
            remedy="export SENTINEL_GITHUB_TOKEN=… (or SENTINEL_GITHUB_TOKEN_FILE=PATH), with the permissions listed "
            "in README's 'Connect a repository'; `sentinelctl demo` needs none",
        )


def check_partitions(there: Mapping[str, int], wanted: int) -> None:
    """Raises PreflightError for a topic with fewer: more would move keys, so nobody but its operator adds them."""
    if few := {topic: there[topic] for topic in Topic if there.get(topic, wanted) < wanted}:
        shown = ", ".join(f"{topic} has {count}" for topic, count in few.items())
        raise PreflightError(
            f"the log has fewer partitions than stream.partitions = {wanted}: {shown}",
            remedy=f"set stream.partitions = {min(few.values())}; or, with nothing left to read, add them to the topic "
            "(Kafka: `kafka-topics.sh --alter --partitions`), since keys change their partition",
        )


def check_claims(settings: "Settings") -> str:
    """Where the claims are. Raises PreflightError for a Redis that does not serve, or that may drop one."""
    if settings.claims.kind != "redis":
        return f"SQLite at {settings.claims_path}"
    from services.claims.redis import RedisClaims
    from services.errors import ClaimsUnavailable, ConfigError

    async def check() -> str:
        claims = RedisClaims(settings.claims, settings.project.name)
        try:
            return await claims.check()
        finally:
            await claims.close()

    try:
        return asyncio.run(check())
    except (ClaimsUnavailable, ConfigError) as exc:
        raise PreflightError(str(exc)) from exc
