"""Which runtime an installation uses, and what follows for the settings that say `auto`."""

from typing import Any

from sentinelctl.containers import own_bootstrap, own_claims_url
from sentinelctl.runtime.embedded import EmbeddedRuntime
from sentinelctl.runtime.engine import address_of, is_local, silence
from services.settings import ClaimsSettings, Settings, StreamSettings


def settled(settings: Settings) -> tuple[Settings, str]:
    """The settings with nothing left to choose, and why where somebody might wonder.

    `auto` is docker where an engine answers, and embedded where none does or where it runs already.
    """
    runtime, why = settings.project.runtime, ""
    if runtime == "auto":
        if EmbeddedRuntime(settings.state_dir).observe().replicas:
            runtime, why = "embedded", "it runs here already"
        elif why := silence(address_of(settings.docker.host)):
            runtime = "embedded"
        else:
            runtime = "docker"
    changed: dict[str, dict[str, Any]] = {"project": {"runtime": runtime}, "stream": {}, "claims": {}}
    is_docker = runtime == "docker"
    stream, claims = settings.stream, settings.claims
    if stream.kind == "auto":
        changed["stream"]["kind"] = "kafka" if is_docker else "sqlite"
    is_kafka = changed["stream"].get("kind", stream.kind) == "kafka"
    if claims.kind == "auto":
        changed["claims"]["kind"] = "redis" if is_docker and is_kafka else "sqlite"
    if is_docker and stream.bootstrap == StreamSettings.model_fields["bootstrap"].default:
        changed["stream"]["bootstrap"] = own_bootstrap(settings)
    if is_docker and claims.url == ClaimsSettings.model_fields["url"].default:
        changed["claims"]["url"] = own_claims_url(settings)
    if settings.autoscaler.enabled == "auto":
        changed["autoscaler"] = {"enabled": is_docker and is_local(address_of(settings.docker.host))}
    sections = {name: getattr(settings, name).model_copy(update=values) for name, values in changed.items()}
    return settings.model_copy(update=sections), why
