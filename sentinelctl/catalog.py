"""The desired state as data: which services there are, in their start order, and what each of them is given."""

import hashlib
import hmac
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from sentinelctl import __version__, prometheus
from sentinelctl.state import Port, Probe, ServiceSpec
from services.contract import Role
from services.settings import InferenceSettings, Settings, secret_keys, variable

# A key that the runtime or the planner decides for each replica, so it is no part of what a service is given.
_DECIDED = {("project", "runtime"), *((role.value, "replicas") for role in Role)}


@dataclass(frozen=True, slots=True)
class _Role:
    sections: tuple[str, ...]
    """Only these reach the process: a setting of another role is no reason to replace this one."""
    ports: Mapping[str, str]
    """Name of the port to the key of its section."""
    probe: str
    publishes: str = ""
    max_replicas: int | None = None


_ROLES = {
    Role.INFERENCE: _Role(
        ("project", "stream", "tracing", "inference"),
        {"grpc": "port", "metrics": "metrics_port"},
        "metrics",
        publishes="grpc",
    ),
    Role.EXTRACTOR: _Role(
        ("project", "stream", "claims", "github", "tracing", "extractor"), {"metrics": "metrics_port"}, "metrics"
    ),
    Role.PUBLISHER: _Role(
        ("project", "stream", "claims", "github", "tracing", "publisher"), {"metrics": "metrics_port"}, "metrics"
    ),
    Role.WEBHOOK: _Role(
        ("project", "stream", "claims", "tracing", "webhook"), {"http": "port"}, "http", max_replicas=1
    ),
    Role.AUTOSCALER: _Role(("project", "stream", "autoscaler"), {"metrics": "metrics_port"}, "metrics", max_replicas=1),
}

SCALED: Final = (Role.EXTRACTOR, Role.INFERENCE, Role.PUBLISHER)
"""By the autoscaler."""

SERVICES: tuple[str, ...] = (*(role.value for role in _ROLES), prometheus.NAME)
"""In start order."""


def catalog(settings: Settings, *, digest_key: bytes, scale: Mapping[str, int]) -> tuple[ServiceSpec, ...]:
    """Every service, in start order. `scale`: replicas that an operator asked for over the settings'."""
    roles = (_spec(role, settings, digest_key, scale.get(role.value)) for role in _ROLES)
    return (*roles, prometheus.spec(settings, scale.get(prometheus.NAME)))


def configured(settings: Settings) -> dict[str, int]:
    """How many replicas of each service the settings ask for."""
    found = {name: int(getattr(getattr(settings, name), "replicas", 1)) for name in SERVICES}
    return found | {Role.AUTOSCALER.value: int(settings.autoscaler.is_on)}


def endpoints_path(state_dir: Path, service: str) -> Path:
    """The addresses of a service's replicas, HOST:PORT, one a line."""
    return state_dir / "endpoints" / service


def _spec(role: Role, settings: Settings, digest_key: bytes, replicas: int | None) -> ServiceSpec:
    about = _ROLES[role]
    own: Any = getattr(settings, role.value)
    env: dict[str, str] = {}
    secrets: dict[str, str] = {}
    hidden = set(secret_keys())
    ports = {key: name for name, key in about.ports.items()}
    for section in about.sections:
        for key, value in getattr(settings, section):
            if (section, key) in hidden:
                secret: SecretStr = value
                if secret.get_secret_value():
                    secrets[variable(section, key)] = secret.get_secret_value()
            elif (section, key) not in _DECIDED and not (section == role.value and key in ports):
                env[variable(section, key)] = ",".join(value) if isinstance(value, tuple) else str(value)
    env |= _resolved(settings, about.sections)
    if role is Role.EXTRACTOR:
        env[variable("inference", "target")] = _inference_target(settings)
    least = configured(settings)
    if role is Role.AUTOSCALER:
        env |= {variable(scaled, "replicas"): str(least[scaled]) for scaled in SCALED}
    return ServiceSpec(
        name=role.value,
        # -P: what lies in the folder it runs in is not imported
        command=(sys.executable, "-P", "-m", f"services.{role.value}"),
        env=env,
        secrets=secrets,
        digests={name: _digest(digest_key, value) for name, value in secrets.items()},
        ports=tuple(
            Port(name, variable(role.value, key), getattr(own, key), _host(own, name))
            for name, key in about.ports.items()
        ),
        probe=Probe(about.probe),
        publishes=about.publishes,
        replicas=replicas if replicas is not None else least[role.value],
        configured=least[role.value],
        max_replicas=about.max_replicas,
        version=__version__,
    )


def _resolved(settings: Settings, sections: tuple[str, ...]) -> dict[str, str]:
    """Paths made absolute, since a service does not run in the folder where the command was typed."""
    paths = {
        ("project", "state_dir"): settings.state_dir,
        ("stream", "path"): settings.stream_path,
        ("claims", "path"): settings.claims_path,
    }
    tls = [("stream", key) for key in ("tls_ca_path", "tls_cert_path", "tls_key_path")]
    for section, key in [("inference", "weights"), ("claims", "ca_file"), *tls]:
        if name := getattr(getattr(settings, section), key):
            paths[section, key] = Path(name).expanduser()
    return {variable(*key): str(path.absolute()) for key, path in paths.items() if key[0] in sections}


def _inference_target(settings: Settings) -> str:
    """The replicas that run here, as the runtime writes them down, unless the settings point elsewhere."""
    target = settings.inference.target
    if target != InferenceSettings.model_fields["target"].default:
        return target
    return f"file:{endpoints_path(settings.state_dir.absolute(), Role.INFERENCE)}"


def _host(own: Any, port: str) -> str:
    """The operations port stays on loopback whatever the service itself listens on."""
    return "127.0.0.1" if port == "metrics" else str(getattr(own, "bind", "127.0.0.1"))


def _digest(key: bytes, secret: str) -> str:
    return "hmac-sha256:" + hmac.new(key, secret.encode(), hashlib.sha256).hexdigest()
