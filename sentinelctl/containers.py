"""The desired state in containers: what the catalog says of each service, and the infrastructure around them."""

import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sentinelctl import prometheus
from sentinelctl.errors import PreflightError
from sentinelctl.images import Built, built
from sentinelctl.runtime.engine import address_of, socket_group, socket_path
from sentinelctl.shipped import shipped
from sentinelctl.state import Container, Mount, Port, ServiceSpec, Volume
from services import counts
from services.contract import Port as Number
from services.contract import Role
from services.settings import Settings, variable

KAFKA, REDIS, GRAFANA = "kafka", "redis", "grafana"
HOST: Final = "host.docker.internal"
"""This machine, as containers know it."""
_DATA: Final = "/data"
_SOCKET: Final = "/var/run/docker.sock"
_KAFKA_INSIDE: Final = 19092
_UNPRIVILEGED: Final = 10001
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_ADDRESSES: Final = (("stream", "bootstrap"), ("claims", "url"), ("github", "api_url"))
_PYTHON: Final = "/opt/sentinel/bin/python"
_PROBE: Final = (_PYTHON, "-IS", "/opt/probe.py")
_PROMETHEUS_INSIDE: Final = 9090
_GRAFANA_INSIDE: Final = 3000
CONTENT_DIGEST: Final = "SENTINEL_CONFIG_DIGEST"
"""Of the files that a server reads, so that an edit replaces it."""
_TSDB: Final = "/prometheus"
_PROMETHEUS_FILES: Final = {
    f"compose/{name}": f"/etc/prometheus/{name}" for name in ("prometheus.yml", *prometheus.RULES)
}
_GRAFANA_FILES: Final = {
    "grafana/provisioning/datasources/prometheus.yml": "/etc/grafana/provisioning/datasources/prometheus.yml",
    "grafana/provisioning/dashboards/sentinel.yml": "/etc/grafana/provisioning/dashboards/sentinel.yml",
    "grafana/dashboards/sentinel.json": "/etc/grafana/dashboards/sentinel.json",
}
"""Each with its place in the container."""
_APPUSER: Final = 1000  # of the image, to whom its folders belong
_KAFKA_WRITES: Final = ("/opt/kafka/logs", "/opt/kafka/config", "/mnt/shared/config")
# Of one KRaft node; any 16 bytes in base64. A volume keeps the one it was formatted with.
_CLUSTER_ID: Final = "c2VudGluZWxzZW50aW5lbA"


@dataclass(frozen=True, slots=True)
class _Limits:
    image: str
    memory_mb: int


_ROLES: Final = {
    Role.INFERENCE.value: _Limits("inference", 1536),
    Role.EXTRACTOR.value: _Limits("services", 512),
    Role.PUBLISHER.value: _Limits("services", 384),
    Role.WEBHOOK.value: _Limits("services", 384),
    Role.AUTOSCALER.value: _Limits("autoscaler", 256),
}


def has_own_kafka(settings: Settings) -> bool:
    """Whether `up` runs the broker; another stream.bootstrap is somebody else's cluster."""
    return settings.stream.kind == "kafka" and settings.stream.bootstrap == own_bootstrap(settings)


def has_own_redis(settings: Settings) -> bool:
    return settings.claims.kind == "redis" and settings.claims.url == own_claims_url(settings)


def has_grafana(settings: Settings) -> bool:
    """Switched on, with a Prometheus to ask."""
    return settings.grafana.enabled and settings.prometheus.enabled


def servers(settings: Settings) -> tuple[str, ...]:
    """What `up` runs beside the services, in start order."""
    return tuple(name for name, has in ((KAFKA, has_own_kafka), (REDIS, has_own_redis)) if has(settings))


def own_bootstrap(settings: Settings) -> str:
    return f"127.0.0.1:{settings.docker.kafka_port}"


def own_claims_url(settings: Settings) -> str:
    return f"redis://127.0.0.1:{settings.docker.redis_port}/0"


def volumes(settings: Settings) -> tuple[Volume, ...]:
    """One for the SQLite files where there are any, which lie in a folder of this machine, so that commands read them
    too; one for each server."""
    name = settings.project.name
    found = [Volume(f"{name}-{at}", str(folder)) for folder, at in _folders(settings).items()]
    if settings.autoscaler.is_on:
        found.append(Volume(f"{name}-{counts.FOLDER}", str(settings.state_dir.absolute() / counts.FOLDER)))
    found += [Volume(f"{name}-{KAFKA}")] if has_own_kafka(settings) else []
    found += [Volume(f"{name}-{REDIS}")] if has_own_redis(settings) else []
    found += [Volume(f"{name}-{prometheus.NAME}")] if settings.prometheus.enabled else []
    found += [Volume(f"{name}-{GRAFANA}")] if has_grafana(settings) else []
    return tuple(found)


def contained(settings: Settings, specs: Sequence[ServiceSpec], *, password: str) -> tuple[ServiceSpec, ...]:
    """The same services for containers, behind the servers they need, in start order.

    password: of Grafana's admin. Raises PreflightError for an address that no container can reach.
    """
    servers = [_kafka(settings)] if has_own_kafka(settings) else []
    servers += [_redis(settings)] if has_own_redis(settings) else []
    roles = (_contained(settings, spec) for spec in specs if spec.name in _ROLES)
    return (*servers, *roles, _prometheus(settings), _grafana(settings, password))


def volume_folders(settings: Settings) -> list[Path]:
    return list(_folders(settings))


def own_folder(folder: Path) -> None:
    """Makes it, for the user that containers run as; one that is there already stays as it is."""
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        give(folder)


def own_files(folder: Path) -> None:
    """What was made in there by root belongs to the containers' user."""
    for path in folder.glob("*.sqlite*"):
        give(path)


def give(path: Path) -> None:
    """To the containers' user, where root is who types the command."""
    if not os.getuid():
        os.chown(path, *data_owner())


def data_owner() -> tuple[int, int]:
    """Who owns the files that containers write: who types the command, and never root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (_UNPRIVILEGED, _UNPRIVILEGED)


def own_images(settings: Settings) -> list[Built]:
    return [_built(settings, name) for name in sorted({limits.image for limits in _ROLES.values()})]


def _extras(settings: Settings, name: str) -> tuple[str, ...]:
    return ("torch",) if name == "inference" and settings.inference.engine == "torchscript" else ()


def _built(settings: Settings, name: str) -> Built:
    return built(name, settings.images.python, *_extras(settings, name))


def _contained(settings: Settings, spec: ServiceSpec) -> ServiceSpec:
    limits = _ROLES[spec.name]
    env, mounts = _paths(settings, dict(spec.env))
    groups: tuple[int, ...] = ()
    if spec.name == Role.AUTOSCALER:
        env |= {variable("project", "runtime"): "docker", variable("project", "state_dir"): _DATA}
        env |= {variable("docker", "host"): f"unix://{_SOCKET}"}
        mounts += (
            Mount(f"{settings.project.name}-{counts.FOLDER}", f"{_DATA}/{counts.FOLDER}"),
            Mount(str(settings.state_dir.absolute() / counts.LOCK), f"{_DATA}/{counts.LOCK}", is_read_only=True),
            Mount(socket_path(address_of(settings.docker.host)), _SOCKET),
        )
        groups = (socket_group(address_of(settings.docker.host)),)
    env |= _addresses(settings, env)
    env |= {variable("project", "metrics_bind"): "0.0.0.0", "HOME": "/tmp"}  # noqa: S104, S108
    for bind in (variable("webhook", "bind"), variable("inference", "bind")):
        if bind in env:
            env[bind] = "0.0.0.0"  # noqa: S104 - of the container; the port's own host is where this machine listens
    ports = tuple(_inside(spec.name, port) for port in spec.ports)
    assert spec.probe is not None
    probed = next(port.inside for port in ports if port.name == spec.probe.port)
    return replace(
        spec,
        command=(_PYTHON, "-P", "-m", f"services.{spec.name}"),
        env=env,
        ports=ports,
        container=Container(
            image=_built(settings, limits.image).reference,
            user=":".join(map(str, data_owner() if mounts else (_UNPRIVILEGED, _UNPRIVILEGED))),
            memory_mb=limits.memory_mb,
            probe=(*_PROBE, str(probed), spec.probe.path),
            mounts=mounts,
            groups=groups,
            hosts=(HOST,) if any(HOST in env.get(variable(*key), "") for key in _ADDRESSES) else (),
        ),
    )


def _inside(service: str, port: Port) -> Port:
    numbers = {
        ("webhook", "http"): Number.WEBHOOK,
        ("inference", "grpc"): Number.INFERENCE,
        ("inference", "metrics"): Number.INFERENCE_METRICS,
        ("extractor", "metrics"): Number.EXTRACTOR_METRICS,
        ("publisher", "metrics"): Number.PUBLISHER_METRICS,
        ("autoscaler", "metrics"): Number.AUTOSCALER_METRICS,
    }
    # gRPC has no authentication, so it stays on the private network.
    return replace(port, inside=numbers[service, port.name], is_published=port.name != "grpc")


def _paths(settings: Settings, env: dict[str, str]) -> tuple[dict[str, str], tuple[Mount, ...]]:
    """Data lies on volumes, files of the settings are mounted where they are, and nothing else of this machine is."""
    name = settings.project.name
    mounts: list[Mount] = []
    env[variable("project", "state_dir")] = "/tmp/state"  # noqa: S108 - nothing but the paths below is kept
    for section, path in (("stream", settings.stream_path), ("claims", settings.claims_path)):
        if (key := variable(section, "path")) not in env:
            continue
        folder = path.absolute().parent
        at = _folders(settings).get(folder)
        if at is None:  # Kafka, or Redis
            del env[key]
            continue
        env[key] = f"{_DATA}/{at}/{path.name}"
        mounts.append(Mount(f"{name}-{at}", f"{_DATA}/{at}"))
    files = [("inference", "weights"), ("claims", "ca_file")]
    files += [("stream", key) for key in ("tls_ca_path", "tls_cert_path", "tls_key_path")]
    for section, key in files:
        if file := env.get(variable(section, key)):
            if not Path(file).exists():
                raise PreflightError(f"{section}.{key} is {file}, which is not there", remedy="correct it")
            if not _may_read(Path(file).stat()):
                raise PreflightError(
                    f"{section}.{key} is {file}, which user {data_owner()[0]}, as whom containers run, may not read",
                    remedy=f"`chown {data_owner()[0]} {file}`, or let others read it",
                )
            mounts.append(Mount(file, file, is_read_only=True))
    return env, tuple(dict.fromkeys(mounts))


def _may_read(about: os.stat_result) -> bool:
    """Whether the containers' user does; which folders the file lies in does not count once it is mounted."""
    user, group = data_owner()
    if about.st_uid == user:
        return bool(about.st_mode & stat.S_IRUSR)
    return bool(about.st_mode & (stat.S_IRGRP if about.st_gid == group else stat.S_IROTH))


def _folders(settings: Settings) -> dict[Path, str]:
    """Of the SQLite files, each with the name of its volume."""
    found: dict[Path, str] = {}
    if settings.stream.kind != "kafka":
        found[settings.stream_path.absolute().parent] = "log"
    if settings.claims.kind != "redis":
        found.setdefault(settings.claims_path.absolute().parent, "claims")
    return found


def _addresses(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """What is an address of this machine here is another one in there."""
    found: dict[str, str] = {}
    if (key := variable("stream", "bootstrap")) in env:
        found[key] = f"{KAFKA}:{_KAFKA_INSIDE}" if has_own_kafka(settings) else env[key]
        if settings.stream.kind == "kafka":
            hosts = [address.rpartition(":")[0] for address in found[key].split(",")]
            _reachable("stream.bootstrap", hosts, "a broker")
    if (key := variable("claims", "url")) in env:
        found[key] = f"redis://{REDIS}:{Number.REDIS}/0" if has_own_redis(settings) else env[key]
        if settings.claims.kind == "redis":
            _reachable("claims.url", [urlsplit(found[key]).hostname or ""], "a Redis")
    if (key := variable("github", "api_url")) in env:
        _reachable("github.api_url", [urlsplit(env[key]).hostname or ""], "a forge")
    if (key := variable("inference", "target")) in env and env[key].startswith("file:"):
        found[key] = f"dns:{Role.INFERENCE.value}:{Number.INFERENCE}"
    return found


def check_brokers(hosts: Sequence[str]) -> None:
    """Raises PreflightError for brokers whose own word for where they are leads a container to itself."""
    if own := [host for host in hosts if host in _LOOPBACK]:
        raise PreflightError(
            f"the brokers at stream.bootstrap tell every client to go on at {own[0]}, which in a container is the "
            "container itself",
            remedy="give them advertised.listeners that containers reach, or use --runtime embedded",
        )


def _reachable(key: str, hosts: Sequence[str], what: str) -> None:
    if own := [host for host in hosts if host.strip("[]") in _LOOPBACK]:
        raise PreflightError(
            f"{key} names {own[0]}, which inside of a container is the container itself",
            remedy=f"give {what} on this machine an address that containers reach too: this machine's own on the "
            f"network, or {HOST} where this machine knows itself by that name; or use --runtime embedded",
        )


def _kafka(settings: Settings) -> ServiceSpec:
    """One KRaft node. Its listener for this machine says loopback; the one for containers is on their network."""
    outside = settings.docker.kafka_port
    env = {
        "CLUSTER_ID": _CLUSTER_ID,
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:29093",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENERS": f"CONTROLLER://localhost:29093,HOST://:{Number.KAFKA},PLAINTEXT://:{_KAFKA_INSIDE}",
        "KAFKA_ADVERTISED_LISTENERS": f"HOST://127.0.0.1:{outside},PLAINTEXT://{KAFKA}:{_KAFKA_INSIDE}",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,HOST:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
        "KAFKA_LOG_DIRS": "/var/lib/kafka/data",
        "KAFKA_HEAP_OPTS": "-Xms256m -Xmx512m",
    }
    return ServiceSpec(
        name=KAFKA,
        command=(),
        env=env,
        ports=(Port(KAFKA, variable("docker", "kafka_port"), outside, inside=Number.KAFKA),),
        grace_s=30,
        max_replicas=1,
        is_gate=True,
        container=Container(
            image=settings.images.kafka,
            user=f"{_APPUSER}:{_APPUSER}",
            memory_mb=1280,
            # The listener takes requests once the broker has started.
            probe=("bash", "-c", f"</dev/tcp/127.0.0.1/{_KAFKA_INSIDE}"),
            mounts=(Mount(f"{settings.project.name}-{KAFKA}", "/var/lib/kafka/data"),),
            # Over a folder of the image a tmpfs has that folder's mode, and root for its owner unless told otherwise.
            scratch=("/tmp:exec", *(f"{path}:uid={_APPUSER},gid={_APPUSER}" for path in _KAFKA_WRITES)),  # noqa: S108
            pids=512,
        ),
    )


def _redis(settings: Settings) -> ServiceSpec:
    """Kept on disk at each write, and no key is ever evicted: a claim that is lost could be posted twice."""
    command: tuple[str, ...] = ("redis-server", "--appendonly", "yes", "--appendfsync", "always", "--dir", _DATA)
    command += ("--maxmemory-policy", "noeviction", "--save", "", "--protected-mode", "no")
    return ServiceSpec(
        name=REDIS,
        command=command,
        ports=(Port(REDIS, variable("docker", "redis_port"), settings.docker.redis_port, inside=Number.REDIS),),
        max_replicas=1,
        is_gate=True,
        container=Container(
            image=settings.images.redis,
            user="999:999",  # redis, in the official image on Debian
            memory_mb=256,
            probe=("redis-cli", "ping"),
            mounts=(Mount(f"{settings.project.name}-{REDIS}", _DATA),),
        ),
    )


def _prometheus(settings: Settings) -> ServiceSpec:
    """With the files of compose/, which find the replicas by name. Its data is bounded."""
    own, (files, content) = settings.prometheus, _given(_PROMETHEUS_FILES)
    return ServiceSpec(
        name=prometheus.NAME,
        command=(
            "--config.file=/etc/prometheus/prometheus.yml",
            f"--storage.tsdb.path={_TSDB}",
            f"--storage.tsdb.retention.time={own.retention_days * 24:.0f}h",
            f"--storage.tsdb.retention.size={own.retention_mb}MB",
            "--log.level=warn",
        ),
        env={CONTENT_DIGEST: content},
        ports=(Port("http", variable("prometheus", "port"), own.port, inside=_PROMETHEUS_INSIDE),),
        replicas=1 if own.enabled else 0,
        max_replicas=1,
        container=Container(
            image=settings.images.prometheus,
            user="65534:65534",  # nobody, to whom the image's folder belongs
            memory_mb=512,
            probe=("promtool", "query", "instant", f"http://127.0.0.1:{_PROMETHEUS_INSIDE}", "1"),
            mounts=(*files, Mount(f"{settings.project.name}-{prometheus.NAME}", _TSDB)),
        ),
    )


def _grafana(settings: Settings, password: str) -> ServiceSpec:
    """On loopback, where anybody may look and nobody may change; the admin's password counts at its first start.

    It asks nobody but Prometheus: what calls home by default is off, plugins that it would fetch included.
    """
    files, content = _given(_GRAFANA_FILES)
    return ServiceSpec(
        name=GRAFANA,
        command=(),
        env={
            CONTENT_DIGEST: content,
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": _GRAFANA_FILES["grafana/dashboards/sentinel.json"],
            "GF_LOG_LEVEL": "warn",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES": "false",
            "GF_NEWS_NEWS_FEED_ENABLED": "false",
            "GF_PLUGINS_PREINSTALL_DISABLED": "true",
            "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED": "true",
            "GF_SECURITY_DISABLE_GRAVATAR": "true",
            "GF_SNAPSHOTS_EXTERNAL_ENABLED": "false",
        },
        secrets={"GF_SECURITY_ADMIN_PASSWORD": password},
        ports=(Port("http", variable("grafana", "port"), settings.grafana.port, inside=_GRAFANA_INSIDE),),
        replicas=1 if has_grafana(settings) else 0,
        max_replicas=1,
        container=Container(
            image=settings.images.grafana,
            user="472:0",  # of the image, to whom its folders belong
            memory_mb=512,
            probe=("wget", "-q", "-T", "2", "-O", "/dev/null", f"http://127.0.0.1:{_GRAFANA_INSIDE}/api/health"),
            mounts=(*files, Mount(f"{settings.project.name}-{GRAFANA}", "/var/lib/grafana")),
        ),
    )


def _given(files: Mapping[str, str]) -> tuple[tuple[Mount, ...], str]:
    """Files of the repository for a container, and a digest of what is in them."""
    found = {shipped(path): target for path, target in files.items()}
    content = hashlib.sha256(b"".join(file.read_bytes() for file in found)).hexdigest()
    return tuple(Mount(str(file), target, is_read_only=True) for file, target in found.items()), content
