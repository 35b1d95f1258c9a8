"""Every setting, declared once: environment over `sentinel.toml` over the defaults below.

A service reads them once, in its `__main__`; `sentinelctl config init` writes them out with these comments, so each
`description` is what an operator reads. Environment names are SENTINEL_<SECTION>_<KEY>; secrets come from there (or
from the file that SENTINEL_<SECTION>_<KEY>_FILE names) and from nowhere else.
"""

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast, get_origin
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from services.contract import SEVERITIES, Port, Variable
from services.errors import ConfigError

DEFAULT_CONFIG = Path("sentinel.toml")
Severity = Literal["nit", "suggestion", "bug", "critical"]

_REPLICAS = "processes started by up, and the fewest that the autoscaler leaves"


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class ProjectSettings(Section):
    name: str = Field(
        "sentinel",
        pattern=r"^[a-z0-9][a-z0-9-]{0,40}$",
        description="name of this installation; two names run side by side",
    )
    state_dir: str = Field(
        "",
        description="folder of the log, the claims and the processes' state; empty: ~/.local/state/sentinel/<name>",
    )
    runtime: Literal["auto", "docker", "embedded"] = Field(
        "auto", description="where services run; auto: in containers where a Docker engine answers, else as processes"
    )
    metrics_bind: str = Field(
        "127.0.0.1", description="address the operations ports listen on; in a container the runtime sets it"
    )


class StreamSettings(Section):
    kind: Literal["auto", "sqlite", "kafka"] = Field(
        "auto",
        description="the log behind the services: sqlite, a file on this machine, or kafka, a cluster; auto: kafka in "
        "containers, else sqlite",
    )
    path: str = Field("", description="SQLite file of the log; empty: data/log.sqlite in the state folder")
    partitions: int = Field(12, ge=1, le=256, description="partitions of each topic; never reduced")
    retention_h: float = Field(24, gt=0, description="hours a record is kept")
    lease_s: float = Field(10, gt=0, description="seconds after which a silent consumer loses its partitions")
    poll_ms: float = Field(5, gt=0, description="milliseconds between looks at SQLite's log while it is empty")
    max_record_bytes: int = Field(
        8_000_000, ge=65536, le=64_000_000, description="largest record, in bytes; larger ones are refused"
    )
    bootstrap: str = Field(
        f"127.0.0.1:{Port.KAFKA}", min_length=1, description="Kafka brokers to begin with: HOST:PORT, comma-separated"
    )
    prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]{0,100}$",
        description="put before Kafka's topic and group names, so that installations share a cluster",
    )
    replication: int = Field(
        0, ge=0, le=16, description="copies that Kafka keeps of each new topic; 0: the cluster's own default"
    )
    timeout_s: float = Field(5, ge=1, le=60, description="seconds until a call that Kafka does not answer has failed")
    api_version: str = Field(
        "", pattern=r"^([0-9]+\.[0-9]+)?$", description="Kafka version to speak, as 2.8; empty: the broker says which"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how Kafka is spoken to"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how a SASL login is proven"
    )
    sasl_username: str = Field("", description="user of a SASL login")
    sasl_password: SecretStr = Field(SecretStr(""), description="password of a SASL login")
    tls_ca_path: str = Field("", description="PEM file of the CA that signed the brokers; empty: the system's CAs")
    tls_cert_path: str = Field("", description="PEM file of our own certificate, for brokers that ask for one")
    tls_key_path: str = Field("", description="PEM file of that certificate's key; empty: in tls_cert_path too")

    @model_validator(mode="after")
    def _has_a_login(self) -> "StreamSettings":
        if self.security_protocol.startswith("SASL") and not (
            self.sasl_username and self.sasl_password.get_secret_value()
        ):
            raise ValueError(
                f"security_protocol is {self.security_protocol} and the login is missing: set stream.sasl_username, "
                f"and {variable('stream', 'sasl_password')} in the environment"
            )
        return self


class ClaimsSettings(Section):
    kind: Literal["auto", "sqlite", "redis"] = Field(
        "auto",
        description="where claims are kept; redis where publishers run on more than one machine; auto: redis in "
        "containers over Kafka, else sqlite",
    )
    path: str = Field("", description="SQLite file of the claims; empty: data/claims.sqlite in the state folder")
    url: str = Field(
        f"redis://127.0.0.1:{Port.REDIS}/0",
        description="the Redis, one primary: redis://[USER@]HOST[:PORT][/DB], or rediss:// for TLS; never its password",
    )
    ca_file: str = Field("", description="certificates that the Redis's own is checked against; empty: the system's")
    password: SecretStr = Field(SecretStr(""), description="password of the Redis")
    lease_s: float = Field(
        60, ge=10, description="seconds after which an unconfirmed claim may be taken over; a review takes up to 5"
    )
    keep_days: float = Field(
        5,
        ge=4,
        description="days a confirmed review claim is kept; longer than GitHub's redelivery window of 3",
    )
    chunk_keep_h: float = Field(24, gt=0, description="hours a chunk's findings are kept for a retry")

    @field_validator("url")
    @classmethod
    def _is_plain_address(cls, url: str) -> str:
        """What is wrong is said without the text itself, which may hold a password."""
        refusal = "it is no address of a Redis; give redis://HOST:PORT/DB, or rediss:// for TLS"
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError:
            raise ValueError(refusal) from None
        if parts.password is not None:
            raise ValueError(f"it holds a password; take that out and set {variable('claims', 'password')} instead")
        is_plain = re.fullmatch(r"(/\d*)?", parts.path) and not parts.query and not parts.fragment
        if parts.scheme not in ("redis", "rediss") or not parts.hostname or not is_plain:
            raise ValueError(refusal)
        return url


class GitHubSettings(Section):
    api_url: str = Field(
        "https://api.github.com", description="REST root; a GitHub Enterprise Server has https://HOST/api/v3"
    )
    timeout_s: float = Field(10, gt=0, description="seconds until an answer counts as lost")
    app_id: int = Field(0, ge=0, description="GitHub App id; 0: authenticate by token")
    pacing: Literal["on", "off"] = Field("on", description="keep to GitHub's content limits; off only against fakehub")
    writes_per_min: float = Field(80, gt=0, description="content writes a minute, the limit GitHub documents")
    writes_per_h: float = Field(500, gt=0, description="content writes an hour, the limit GitHub documents")
    write_burst: int = Field(20, ge=1, description="writes that may go out at once after a quiet time")
    token: SecretStr = Field(SecretStr(""), description="token with contents:read and pull_requests:write")
    app_key: SecretStr = Field(SecretStr(""), description="private key of the GitHub App, PEM")


class WebhookSettings(Section):
    bind: str = Field("127.0.0.1", description="address the receiver listens on")
    port: int = Field(
        Port.WEBHOOK, ge=0, le=65535, description="port of the receiver and its /health, /ready, /metrics"
    )
    max_body_bytes: int = Field(25 * 1024 * 1024, ge=1024, description="largest body taken; GitHub sends at most 25 MB")
    secret: SecretStr = Field(SecretStr(""), description="the webhook's secret; required")
    secret_previous: SecretStr = Field(
        SecretStr(""), description="the secret before a rotation, accepted beside the new one"
    )


class ExtractorSettings(Section):
    replicas: int = Field(1, ge=1, le=64, description=_REPLICAS)
    metrics_port: int = Field(Port.EXTRACTOR_METRICS, ge=0, le=65535, description="port of /health, /ready, /metrics")
    max_in_flight: int = Field(32, ge=1, description="events worked on at once")
    max_hunk_lines: int = Field(
        2000, ge=10, description="lines of a hunk sent to the model; the rest is counted as too_large"
    )
    max_hunk_bytes: int = Field(
        262144, ge=1024, description="bytes of a hunk sent to the model; larger ones are counted as too_large"
    )
    max_hunks: int = Field(
        3000, ge=1, description="hunks of one review sent to the model; the rest is counted as over_budget"
    )
    ignore: tuple[str, ...] = Field(
        (), description="globs of paths never reviewed, beside vendored, generated and lock files"
    )
    overflow_after_s: float = Field(
        5,
        gt=0,
        description="seconds an event may wait in the log and for inference; hunks not reviewed by then go by "
        "diff-chunks",
    )


class InferenceSettings(Section):
    replicas: int = Field(1, ge=1, le=64, description=_REPLICAS)
    bind: str = Field("127.0.0.1", description="address the gRPC server listens on")
    port: int = Field(Port.INFERENCE, ge=0, le=65535, description="gRPC port")
    metrics_port: int = Field(Port.INFERENCE_METRICS, ge=0, le=65535, description="port of /health, /ready, /metrics")
    target: str = Field(
        f"127.0.0.1:{Port.INFERENCE}",
        description="where the extractor finds it: HOST:PORT, comma-separated; file:PATH with one a line; or "
        "dns:HOST:PORT, every address of that name",
    )
    engine: Literal["onnx", "torchscript"] = Field(
        "onnx", description="torchscript needs the [train] extra and an export"
    )
    weights: str = Field("", description="folder of other weights; empty: the shipped ones")
    min_precision: float = Field(
        0.6,
        ge=0,
        le=0.9,
        description="how often a concept's findings were right on validation, for it to be shown; bugs at least 0.7",
    )
    threads: int = Field(0, ge=0, description="forward passes at once; 0: one per core")
    max_batch: int = Field(32, ge=1, description="chunks in one forward pass")
    window_ms: float = Field(20, ge=0, description="longest a chunk waits for company on a busy engine")
    max_queue_ms: float = Field(
        5000, gt=0, description="queue time above which a call is refused with RESOURCE_EXHAUSTED"
    )


class PublisherSettings(Section):
    replicas: int = Field(1, ge=1, le=64, description=_REPLICAS)
    metrics_port: int = Field(Port.PUBLISHER_METRICS, ge=0, le=65535, description="port of /health, /ready, /metrics")
    max_comments: int = Field(
        3, ge=0, le=50, description="inline comments of one review; the rest is folded in its body"
    )
    min_severity: Severity = Field(
        "suggestion", description=f"least severity of an inline comment: {', '.join(SEVERITIES)}"
    )
    min_confidence: float = Field(0.6, ge=0, le=1, description="least calibrated confidence of a finding that is shown")


class TracingSettings(Section):
    endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s@]+)?$",
        description="OTLP/HTTP address of a collector of spans, such as http://127.0.0.1:4318/v1/traces; empty: none "
        "are made; needs the [otel] extra",
    )


class PrometheusSettings(Section):
    enabled: bool = Field(True, description="record metrics: up starts Prometheus too, where it is installed")
    port: int = Field(Port.PROMETHEUS, ge=0, le=65535, description="its port, on loopback")
    retention_days: float = Field(15, ge=0.1, description="days that metrics are kept; the burn rates look back 3")
    retention_mb: int = Field(512, ge=16, description="megabytes after which the oldest metrics go sooner")


class GrafanaSettings(Section):
    """In containers alone."""

    enabled: bool = Field(
        True, description="show metrics: up starts Grafana too, in containers and where prometheus.enabled"
    )
    port: int = Field(Port.GRAFANA, ge=0, le=65535, description="its port, on loopback, where anybody may look")


class AutoscalerSettings(Section):
    """The fewest replicas of a service are its own `replicas`, so that two settings cannot contradict each other."""

    enabled: bool | Literal["auto"] = Field(
        "auto",
        description="let up start the autoscaler, which sets how many replicas of a service run by what waits; auto: "
        "in containers on this machine's engine, whose socket its container is given",
    )
    metrics_port: int = Field(Port.AUTOSCALER_METRICS, ge=0, le=65535, description="port of /health, /ready, /metrics")
    interval_s: float = Field(5, ge=0.1, le=300, description="seconds between two looks at the lag")
    extractor_max: int = Field(4, ge=1, le=64, description="most extractors; 1 leaves them alone")
    extractor_target: float = Field(50, ge=1, description="records of push-events that one extractor may have waiting")
    inference_max: int = Field(2, ge=1, le=64, description="most inference servers; one uses every core by default")
    inference_target: float = Field(10, ge=1, description="records of diff-chunks that one server may have waiting")
    inference_queue_ms: float = Field(
        250, gt=0, description="mean wait of a chunk for its batch above which another server is started"
    )
    publisher_max: int = Field(
        1, ge=1, le=64, description="most publishers; one alone writes as fast as GitHub lets one account write"
    )
    publisher_target: float = Field(50, ge=1, description="records of reviews that one publisher may have waiting")
    tolerance: float = Field(0.1, ge=0, le=1, description="part of a target by which the lag may differ from it")
    cooldown_s: float = Field(15, ge=0, description="seconds from one change of a service to its next")
    stabilise_s: float = Field(
        120, gt=0, description="seconds that fewer replicas must have been enough before there are fewer"
    )
    stall_s: float = Field(
        60, gt=0, description="seconds without a commit after which a partition that waits counts as stuck"
    )

    @property
    def is_on(self) -> bool:
        """False while `auto` is not settled."""
        return self.enabled is True


class DockerSettings(Section):
    """Of the Docker runtime."""

    host: str = Field("", description="the engine: unix://PATH, tcp://… or ssh://…; empty: DOCKER_HOST, else the local")
    kafka_port: int = Field(Port.KAFKA, ge=1, le=65535, description="port of this machine for the Kafka that up starts")
    redis_port: int = Field(Port.REDIS, ge=1, le=65535, description="port of this machine for the Redis that up starts")
    min_free_gb: float = Field(2, ge=0, description="free disk that up asks for where the engine keeps its data, in GB")


class ImagesSettings(Section):
    """Pinned by version; each can name another registry's, or one that the engine already has."""

    python: str = Field(
        "python:3.11-slim-bookworm",
        description="what our own images are built on: Python 3.11 or newer; the default is listed in "
        "https://github.com/docker-library/official-images/blob/master/library/python",
    )
    kafka: str = Field(
        "apache/kafka:4.1.1",
        description="Apache Kafka; the default is that of https://kafka.apache.org/41/getting-started/docker",
    )
    redis: str = Field(
        "redis:7.4-bookworm",
        description="Redis 7 or newer; the default was listed by "
        "https://github.com/docker-library/official-images/pull/17272",
    )
    prometheus: str = Field(
        "prom/prometheus:v3.7.2",
        description="Prometheus 2.42 or newer; Prometheus's own client runs the default: "
        "https://github.com/prometheus/client_java/pull/1638",
    )
    grafana: str = Field(
        "grafana/grafana:12.2.1",
        description="Grafana 11 or newer, with wget in it; Grafana Labs test with the default: "
        "https://github.com/grafana/jsonnet-libs/pull/1518",
    )


class Settings(Section):
    """All sections, frozen. `load()` is the way to get one."""

    project: ProjectSettings = Field(default_factory=ProjectSettings)
    stream: StreamSettings = Field(default_factory=StreamSettings)
    claims: ClaimsSettings = Field(default_factory=ClaimsSettings)
    github: GitHubSettings = Field(default_factory=GitHubSettings)
    webhook: WebhookSettings = Field(default_factory=WebhookSettings)
    extractor: ExtractorSettings = Field(default_factory=ExtractorSettings)
    inference: InferenceSettings = Field(default_factory=InferenceSettings)
    publisher: PublisherSettings = Field(default_factory=PublisherSettings)
    tracing: TracingSettings = Field(default_factory=TracingSettings)
    prometheus: PrometheusSettings = Field(default_factory=PrometheusSettings)
    grafana: GrafanaSettings = Field(default_factory=GrafanaSettings)
    autoscaler: AutoscalerSettings = Field(default_factory=AutoscalerSettings)
    docker: DockerSettings = Field(default_factory=DockerSettings)
    images: ImagesSettings = Field(default_factory=ImagesSettings)

    @property
    def state_dir(self) -> Path:
        return (
            Path(self.project.state_dir).expanduser()
            if self.project.state_dir
            else (
                Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "sentinel" / self.project.name
            )
        )

    @property
    def stream_path(self) -> Path:
        return Path(self.stream.path).expanduser() if self.stream.path else self.state_dir / "data" / "log.sqlite"

    @property
    def claims_path(self) -> Path:
        return Path(self.claims.path).expanduser() if self.claims.path else self.state_dir / "data" / "claims.sqlite"


def sections() -> dict[str, type[Section]]:
    """Section name to its class, in the order people read them."""
    return {name: cast("type[Section]", field.annotation) for name, field in Settings.model_fields.items()}


def secret_keys() -> list[tuple[str, str]]:
    """(section, key) of every secret."""
    return [
        (section, key)
        for section, model in sections().items()
        for key, field in model.model_fields.items()
        if field.annotation is SecretStr
    ]


def replica_name(environ: Mapping[str, str] | None = None) -> str:
    """Of this replica, the same after a restart and no other's on any host; empty when nobody named it."""
    name = (os.environ if environ is None else environ).get(Variable.REPLICA, "")
    return f"{socket.gethostname()}.{name}" if name else ""


def variable(section: str, key: str) -> str:
    """The environment variable that overrides a key."""
    return f"SENTINEL_{section}_{key}".upper()


def load(config: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from `config` (else $SENTINEL_CONFIG, else ./sentinel.toml where present) and the environment.

    Raises ConfigError naming the key, its fault and what to do.
    """
    environ = os.environ if environ is None else environ
    document = _read(config, environ)
    for section, key in secret_keys():
        if key in document.get(section, {}):
            raise ConfigError(
                f"{section}.{key} is a secret and stands in the settings file; remove it there and set "
                f"{variable(section, key)} (or {variable(section, key)}_FILE) instead"
            )
    for section, values in _from_environment(environ).items():
        document[section] = {**document.get(section, {}), **values}
    try:
        return Settings.model_validate(document)
    except ValidationError as exc:
        faults = "; ".join(
            _fault(tuple(map(str, error["loc"])), error["type"], error["msg"])
            for error in exc.errors(include_input=False)
        )
        raise ConfigError(
            f"the settings do not hold: {faults}. `sentinelctl config init` writes a file with every key"
        ) from exc


def _fault(where: tuple[str, ...], kind: str, message: str) -> str:
    """In the words of the file: pydantic's speak of extra inputs and tuples."""
    name = ".".join(where)
    if kind == "tuple_type":
        return f"{name}: should be a list of strings"
    if kind != "extra_forbidden":
        return f"{name}: {message}"
    known = sections()[where[0]].model_fields if len(where) > 1 else sections()
    near = difflib.get_close_matches(where[-1], known, 1)
    return f"{name} is no {'setting' if len(where) > 1 else 'section'}{f', but {near[0]} is' if near else ''}"


def _read(config: Path | None, environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    named = config or (Path(environ[Variable.CONFIG]) if environ.get(Variable.CONFIG) else None)
    path = named or DEFAULT_CONFIG
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if named is None:
            return {}
        raise ConfigError(f"no settings file at {path}; `sentinelctl config init {path}` writes one") from exc
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} is not readable TOML: {exc}") from exc
    for name, values in document.items():
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: {name} stands outside of any section; put it below its [section]")
    return document


def _from_environment(environ: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Overrides by section. A variable of a known section with an unknown key is refused by the section itself."""
    found: dict[str, dict[str, Any]] = {}
    for name, value in environ.items():
        section, _, key = name.removeprefix("SENTINEL_").lower().partition("_")
        model = sections().get(section) if name.startswith("SENTINEL_") else None
        if model is None:
            continue
        if key.endswith("_file") and (section, key.removesuffix("_file")) in secret_keys():
            key, value = key.removesuffix("_file"), _secret_file(name, value)
        field = model.model_fields.get(key)
        is_list = field is not None and get_origin(field.annotation) is tuple
        found.setdefault(section, {})[key] = [part for part in value.split(",") if part] if is_list else value
    return found


def _secret_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{name} names {path}, which cannot be read: {exc}") from exc
