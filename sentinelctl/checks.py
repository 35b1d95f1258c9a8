"""What `doctor` looks at: each check is one function that says what it saw, and what to do when that is not enough."""

import asyncio
import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from sentinelctl import containers, prometheus
from sentinelctl.errors import PreflightError, SentinelError
from sentinelctl.lifecycle import Project, check_claims, check_secrets
from sentinelctl.runtime.engine import address_of, connect, explained
from sentinelctl.runtime.process import port_fault
from services.contract import Topic

_LEAST_PYTHON: Final = (3, 11)
_LEAST_FREE_BYTES: Final = 512 * 1024 * 1024
_LIBRARIES: Final = (
    "crc32c", "fastapi", "google.protobuf", "grpc", "httpx2", "jwt", "kafka", "numpy", "onnxruntime",
    "prometheus_client", "pydantic", "redis", "sentencepiece", "stamina", "structlog", "uvicorn",
)  # fmt: skip
_GIB: Final = 1024**3


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def run_checks(project: Project, *, is_online: bool) -> Iterator[Check]:
    """One after the other, each shown as it is done. Only the online ones, Kafka and Redis leave this machine."""
    here = (_python, _platform, _libraries, _weights, _git, _state_dir, _disk, _ports, _claims, _metrics)
    for check in (*here, _secret, _access):
        yield check(project)
    if project.is_docker:
        yield _engine(project)
    has_own_kafka = project.is_docker and containers.has_own_kafka(project.settings)
    if project.settings.stream.kind == "kafka" and not has_own_kafka:
        yield asyncio.run(_kafka(project))
    if is_online:
        yield _github(project)


def _python(_: Project) -> Check:
    seen = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < _LEAST_PYTHON:
        return Check("python", Verdict.FAILED, seen, "install Python 3.11 or newer and make the environment anew")
    return Check("python", Verdict.OK, seen)


def _platform(_: Project) -> Check:
    seen = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    if platform.system() not in ("Linux", "Darwin"):
        return Check("platform", Verdict.FAILED, seen, "Sentinel runs on Linux and macOS; on Windows use WSL 2")
    return Check("platform", Verdict.OK, seen)


def _libraries(_: Project) -> Check:
    faults = []
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except Exception as exc:  # noqa: BLE001 - a broken wheel raises anything at all
            faults.append(f"{name}: {exc}")
    if faults:
        return Check("libraries", Verdict.FAILED, "; ".join(faults), "`pip install --force-reinstall sentinel-review`")
    return Check("libraries", Verdict.OK, f"all {len(_LIBRARIES)} import")


def _weights(project: Project) -> Check:
    from model.engine import ModelError, load_engine

    own = project.settings.inference
    try:
        info = load_engine(
            own.engine, Path(own.weights).expanduser() if own.weights else None, min_precision=own.min_precision
        ).info
    except ModelError as exc:
        return Check("model", Verdict.FAILED, str(exc), "install Sentinel again, or correct inference.weights")
    return Check("model", Verdict.OK, f"{info.name} {info.version}, {info.digest[:12]}")


def _git(_: Project) -> Check:
    path = shutil.which("git")
    if path is None:
        return Check("git", Verdict.FAILED, "not on PATH", "install git; `review` and `demo` read repositories with it")
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Check("git", Verdict.OK, f"{version} at {path}")


def _state_dir(project: Project) -> Check:
    path = project.state_dir.path
    if fault := project.state_dir.fault():
        return Check("state folder", Verdict.FAILED, fault, "set project.state_dir to a folder of yours")
    if path.exists() and path.stat().st_mode & 0o077:
        seen = f"{path} is open to others (mode {path.stat().st_mode & 0o777:o})"
        return Check("state folder", Verdict.WARNING, seen, f"chmod 700 {path}")
    return Check("state folder", Verdict.OK, str(path) if path.exists() else f"{path}, made by `up`")


def _disk(project: Project) -> Check:
    path = project.state_dir.path
    free = shutil.disk_usage(next(folder for folder in (path, *path.parents) if folder.exists())).free
    seen = f"{free / _GIB:.1f} GiB free below {path}"
    if free < _LEAST_FREE_BYTES:
        return Check("disk", Verdict.FAILED, seen, "free some, or lower stream.retention_h; a full disk stops the log")
    return Check("disk", Verdict.OK, seen)


def _engine(project: Project) -> Check:
    address = address_of(project.settings.docker.host)
    try:
        client = connect(address)
        with explained("looking at the engine"):
            about = client.info()
            there = {tag for image in client.images() for tag in image["RepoTags"] or ()}
        client.close()
    except SentinelError as exc:
        return Check("engine", Verdict.FAILED, exc.message, exc.remedy)
    images = {spec.container.image for spec in project.desired() if spec.container and spec.replicas}
    lacking = sorted(images - there)
    seen = f"Docker {about['ServerVersion']} at {address}, {about['MemTotal'] / _GIB:.1f} GiB of memory"
    return Check("engine", Verdict.OK, seen + (f"; `up` builds or pulls {', '.join(lacking)}" if lacking else ""))


def _ports(project: Project) -> Check:
    if project.state_dir.fault():
        return Check("ports", Verdict.WARNING, "not looked at: what runs stands in the state folder")
    try:
        return _ports_of(project)
    except SentinelError as exc:
        return Check("ports", Verdict.FAILED, exc.message, exc.remedy)


def _ports_of(project: Project) -> Check:
    own = {number for replica in project.runtime.observe().replicas for number in replica.ports.values()}
    faults = [
        f"{port.number} for {spec.name} is {fault}"
        for spec in project.desired()
        for port in spec.ports
        if spec.replicas
        and port.number
        and port.is_published
        and port.number not in own
        and (fault := port_fault(port.host, port.number))
    ]
    if faults:
        return Check("ports", Verdict.FAILED, "; ".join(faults), "end that process, or set another port; 0 takes any")
    return Check("ports", Verdict.OK, "free, or held by our own services")


def _claims(project: Project) -> Check:
    if project.is_docker and containers.has_own_redis(project.settings):
        return Check("claims", Verdict.OK, f"Redis at {containers.own_claims_url(project.settings)}, started by `up`")
    try:
        return Check("claims", Verdict.OK, check_claims(project.settings))
    except PreflightError as exc:
        return Check("claims", Verdict.FAILED, exc.message, exc.remedy)


def _metrics(project: Project) -> Check:
    if fault := prometheus.fault(project.settings):
        what, _, remedy = fault.partition("; ")
        return Check("metrics", Verdict.WARNING, what, remedy)
    if project.is_docker and project.settings.prometheus.enabled:
        return Check("metrics", Verdict.OK, f"by {project.settings.images.prometheus}")
    is_wanted = prometheus.is_wanted(project.settings)
    return Check("metrics", Verdict.OK, f"by {shutil.which(prometheus.NAME)}" if is_wanted else "switched off")


def _secret(project: Project) -> Check:
    return _set_check("webhook secret", project, "webhook", "set")


def _access(project: Project) -> Check:
    return _set_check("GitHub access", project, "publisher", "set")


def _set_check(name: str, project: Project, service: str, seen: str) -> Check:
    try:
        check_secrets(project.settings, [service])
    except PreflightError as exc:
        return Check(name, Verdict.FAILED, exc.message, exc.remedy)
    return Check(name, Verdict.OK, seen)


async def _kafka(project: Project) -> Check:
    from services.errors import BusUnavailable
    from services.stream import open_admin

    stream = project.settings.stream
    admin = open_admin(stream, project.settings.stream_path)
    try:
        there = await admin.topics()
    except BusUnavailable as exc:
        return Check("kafka", Verdict.FAILED, str(exc))
    finally:
        await admin.close()
    ours = sum(topic in there for topic in Topic)
    seen = f"{stream.bootstrap} answers; {ours} of {len(Topic)} topics" + ("" if ours else ", made by `up`")
    return Check("kafka", Verdict.OK, seen)


def _github(project: Project) -> Check:
    import httpx2

    github = project.settings.github
    token = github.token.get_secret_value()
    if not token:
        return Check("github", Verdict.WARNING, "not asked: no token is set", "export SENTINEL_GITHUB_TOKEN=…")
    try:
        answer = httpx2.get(
            f"{github.api_url}/rate_limit", headers={"Authorization": f"Bearer {token}"}, timeout=github.timeout_s
        )
    except httpx2.HTTPError as exc:
        seen = f"{github.api_url}: {exc}"
        return Check("github", Verdict.FAILED, seen, "check the network, its proxy and github.api_url")
    if answer.is_success:
        return Check("github", Verdict.OK, f"{github.api_url} takes the token")
    seen = f"{github.api_url} answers {answer.status_code}"
    return Check("github", Verdict.FAILED, seen, "make a new token; this one is wrong, expired or revoked")
