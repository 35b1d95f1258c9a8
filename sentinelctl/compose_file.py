"""The catalog as a compose file: the same containers for people who run compose. Written, never read.

Left to compose: the replica's own name, by which Kafka tells static members apart, and the autoscaler, which clones
what `up` started.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from sentinelctl import containers
from sentinelctl.catalog import catalog
from sentinelctl.runtime.choice import settled
from sentinelctl.state import Mount, Port, ServiceSpec, Volume
from services.contract import Role
from services.settings import Settings, sections, variable

_HEADER: Final = """\
# Written by `sentinelctl config compose compose/compose.yaml`; README.md says how it is used.
"""
_EVERY: Final[dict[str, Any]] = {
    "restart": "unless-stopped",
    "stop_signal": "SIGTERM",
    "init": True,
    "read_only": True,
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "tmpfs": ["/tmp"],  # noqa: S108
    "pids_limit": 256,
    "stop_grace_period": "15s",
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
}
_PROBED: Final = {"interval": "15s", "timeout": "5s", "retries": 3, "start_period": "30s"}
_BLOCKS: Final = ("environment", "ports", "volumes")


def document(settings: Settings, folder: Path | None = None) -> dict[str, Any]:
    """As compose reads it. folder: where it will lie, to which the paths of files are then relative."""
    settings, _ = settled(_with_secrets(settings))
    specs = containers.contained(settings, catalog(settings, digest_key=b"", scale={}), password="")
    specs = tuple(spec for spec in specs if spec.replicas and spec.name != Role.AUTOSCALER)
    mounted = {mount.source for spec in specs if spec.container for mount in spec.container.mounts}
    volumes = {one.name: one for one in containers.volumes(settings) if one.name in mounted}
    gates: dict[str, dict[str, str]] = {}
    services = {}
    for spec in specs:
        services[spec.name] = _EVERY | _service(spec, settings, volumes, folder)
        if gates:
            services[spec.name]["depends_on"] = dict(gates)
        if spec.is_gate:
            gates[spec.name] = {"condition": "service_healthy"}
    named = {_short(settings, one.name): _volume(one) for one in volumes.values()}
    return {"services": services, "volumes": named}


def render(settings: Settings, folder: Path | None = None) -> str:
    """The file's text: what every service has stands once."""
    whole = document(settings, folder)
    lines = ["x-every: &every", *_lines(_EVERY, 1), "", "services:"]
    for name, service in whole["services"].items():
        own = {key: value for key, value in service.items() if _EVERY.get(key) != value}
        lines += [f"  {name}:", "    <<: *every", *_lines(own, 2)]
    return _HEADER + "\n".join([*lines, "", *_lines({"volumes": whole["volumes"]})]) + "\n"


def _with_secrets(settings: Settings) -> Settings:
    """Containers, with those secrets that nothing starts without; of a secret the file has its name alone."""
    needed = {"webhook": ["secret"], "github": ["app_key" if settings.github.app_id else "token"]}
    found: dict[str, Any] = {"project": settings.project.model_copy(update={"runtime": "docker"})}
    for section, keys in needed.items():
        own = getattr(settings, section)
        found[section] = own.model_copy(update={key: SecretStr("set") for key in keys})
    return settings.model_copy(update=found)


def _service(
    spec: ServiceSpec, settings: Settings, volumes: Mapping[str, Volume], folder: Path | None
) -> dict[str, Any]:
    container = spec.container
    assert container is not None
    ours = {image.reference: image.tag for image in containers.own_images(settings)}
    found: dict[str, Any] = {"image": ours.get(container.image, container.image)}
    if spec.command:
        found["command"] = [_literal(word) for word in spec.command]
    found["user"] = container.user
    if env := _environment(spec):
        found["environment"] = env
    if spec.replicas > 1:
        found["scale"] = spec.replicas
    if ports := [_port(port, spec) for port in spec.ports if port.is_published]:
        found["ports"] = ports
    if container.mounts:
        found["volumes"] = [_mount(mount, settings, volumes, folder) for mount in container.mounts]
    if container.hosts:
        found["extra_hosts"] = [f"{host}:host-gateway" for host in container.hosts]
    found["tmpfs"] = list(container.scratch)
    found |= dict.fromkeys(("mem_limit", "memswap_limit"), f"{container.memory_mb}m")
    found["pids_limit"] = container.pids
    found["stop_grace_period"] = f"{spec.grace_s:.0f}s"
    found["healthcheck"] = {"test": ["CMD", *map(_literal, container.probe)], **_PROBED}
    return found


def _environment(spec: ServiceSpec) -> dict[str, str]:
    """What differs from the defaults, which the image's own settings have as well."""
    defaults = {
        variable(section, key): ",".join(field.default) if isinstance(field.default, tuple) else str(field.default)
        for section, model in sections().items()
        for key, field in model.model_fields.items()
    }
    env = {
        name: _literal(value)
        for name, value in spec.env.items()
        if defaults.get(name) != value and name != containers.CONTENT_DIGEST
    }
    return env | {name: f"${{{name}:?}}" for name in spec.secrets}


def _port(port: Port, spec: ServiceSpec) -> str:
    """A free one of this machine where there may be several replicas."""
    number = str(port.number) if port.number and spec.max_replicas == 1 else ""
    return f"{port.host}:{number}:{port.inside}"


def _mount(mount: Mount, settings: Settings, volumes: Mapping[str, Volume], folder: Path | None) -> str:
    if mount.source in volumes:
        source = _short(settings, mount.source)
    else:
        source = mount.source if folder is None else os.path.relpath(mount.source, folder.absolute())
        source = source if source.startswith(("/", ".")) else f"./{source}"
    return f"{source}:{mount.target}" + (":ro" if mount.is_read_only else "")


def _short(settings: Settings, volume: str) -> str:
    """compose puts the project's name before it."""
    return volume.removeprefix(f"{settings.project.name}-")


def _volume(volume: Volume) -> dict[str, Any]:
    options = {"type": "none", "o": "bind", "device": volume.path}
    return {"driver": "local", "driver_opts": options} if volume.path else {}


def _literal(text: str) -> str:
    return text.replace("$", "$$")


def _lines(value: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """YAML: what people look for stands in lines of its own, all else as JSON, which is YAML too."""
    at = "  " * depth
    for key, inner in value.items():
        if key not in _BLOCKS or not inner:
            yield f"{at}{key}: {json.dumps(inner)}"
            continue
        yield f"{at}{key}:"
        if isinstance(inner, Mapping):
            yield from (f"{at}  {name}: {json.dumps(one)}" for name, one in inner.items())
        else:
            yield from (f"{at}  - {json.dumps(one)}" for one in inner)
