"""A real Docker engine for tests: why there is none, and projects of which nothing is left afterwards."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import docker
import pytest

from sentinelctl.plan import plan, plan_down
from sentinelctl.readiness import wait_ready
from sentinelctl.runtime.docker import PROJECT, DockerRuntime
from sentinelctl.runtime.engine import address_of, silence
from sentinelctl.state import Container, Mount, Plan, Port, Probe, Replica, ServiceSpec, Volume

ADDRESS = address_of("")
PYTHON_IMAGE = os.environ.get("SENTINEL_TEST_PYTHON_IMAGE", "sentinel-test-python")
REDIS_IMAGE = os.environ.get("SENTINEL_TEST_REDIS_IMAGE", "sentinel-test-redis")
PROMETHEUS_IMAGE = os.environ.get("SENTINEL_TEST_PROMETHEUS_IMAGE", "sentinel-test-prometheus")
KAFKA_IMAGE = os.environ.get("SENTINEL_TEST_KAFKA_IMAGE", "")
GRAFANA_IMAGE = os.environ.get("SENTINEL_TEST_GRAFANA_IMAGE", "")

_PROBE = (Path(__file__).parent.parent / "compose" / "images" / "probe.py").read_text(encoding="utf-8")
_SERVICE = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(os.environ.get("ANSWER", "200")))
        self.end_headers()
        self.wfile.write(b"said by the probe")
    def log_message(self, *args): pass
def end(*_):
    if os.environ.get("STUBBORN"): return
    print(json.dumps({"event": "fake.stopped"}), flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
for number in range(int(os.environ.get("CHATTER", "0"))):
    print(json.dumps({"event": f"fake.line-{number}"}), flush=True)
print(json.dumps({"event": "fake.started", "level": os.environ.get("LEVEL", "")}), flush=True)
if os.environ.get("CRASH"): sys.exit(7)
HTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@cache
def missing(image: str) -> str:
    """Why tests on this image cannot run; empty when they can."""
    if fault := silence(ADDRESS):
        return fault
    client = docker.APIClient(ADDRESS)
    try:
        return "" if client.images(image) else f"the engine has no image {image}; `.ci/engine` makes it"
    finally:
        client.close()


def needs_engine(image: str = PYTHON_IMAGE) -> list[pytest.MarkDecorator]:
    fault = missing(image)
    return [pytest.mark.docker, pytest.mark.skipif(bool(fault), reason=fault)]


def fake(
    name: str = "fake", *, replicas: int = 1, port: int = 0, grace_s: float = 5, image: str = PYTHON_IMAGE, **env: str
) -> ServiceSpec:
    """A service that answers its probe with $ANSWER, ends at once with $CRASH, needs force with $STUBBORN, and writes
    $CHATTER lines first."""
    return ServiceSpec(
        name=name,
        command=("python3", "-S", "-c", _SERVICE),
        env=env,
        secrets={"TOKEN": "hunter2"},
        digests={"TOKEN": "digest"},
        ports=(Port("http", "SENTINEL_FAKE_PORT", port, inside=8080),),
        probe=Probe("http"),
        replicas=replicas,
        grace_s=grace_s,
        container=Container(
            image=image,
            user="10001:10001",
            memory_mb=64,
            probe=("python3", "-IS", "-c", _PROBE, "8080", "/ready"),
            mounts=(Mount("", "/data"),),
        ),
    )


@dataclass
class Site:
    """One project on the engine. Its services have a volume of it at /data."""

    runtime: DockerRuntime
    client: docker.APIClient
    name: str
    said: list[str] = field(default_factory=list)

    def placed(self, spec: ServiceSpec) -> ServiceSpec:
        from dataclasses import replace

        assert spec.container is not None
        return replace(spec, container=replace(spec.container, mounts=(Mount(f"{self.name}-data", "/data"),)))

    def planned(self, *desired: ServiceSpec) -> Plan:
        found = plan(self.runtime.resolve([self.placed(spec) for spec in desired]), self.runtime.observe())
        whole = Plan((*self.runtime.needs(found), *found.operations))
        self.runtime.check(whole)
        return whole

    def converge(self, *desired: ServiceSpec, ready_s: float = 60) -> list[str]:
        found = self.planned(*desired)
        for operation in found.operations:
            self.runtime.apply(operation)
        wait_ready(self.runtime, [f"{s.name}-{n}" for s in desired for n in range(1, s.replicas + 1)], ready_s)
        return [f"{one.kind} {one.replica}" for one in found.operations]

    def down(self, *, with_volumes: bool = False) -> list[str]:
        found = (*plan_down([], self.runtime.observe()).operations, *self.runtime.leftovers(with_volumes=with_volumes))
        for operation in found:
            self.runtime.apply(operation)
        return [f"{one.kind} {one.replica}" for one in found]

    def replica(self, name: str) -> Replica:
        return next(one for one in self.runtime.observe().replicas if one.name == name)

    def about(self, replica: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.client.inspect_container(f"{self.name}-{replica}")
        return found

    def run(self, replica: str, *command: str) -> tuple[int, str]:
        """In its container."""
        made = self.client.exec_create(f"{self.name}-{replica}", list(command))
        said = self.client.exec_start(made["Id"]).decode()
        return self.client.exec_inspect(made["Id"])["ExitCode"], said


def project_name() -> str:
    """That nobody else has; by its beginning a session of tests knows what is its own (conftest.py)."""
    return f"{of_session()}{uuid.uuid4().hex[:8]}"


def of_session() -> str:
    return f"test-{os.environ['SENTINEL_TEST_SESSION']}-"


def left_behind() -> list[str]:
    """What this session's projects still have on the engine, each with its project."""
    client = docker.APIClient(ADDRESS)
    try:
        any_label = {"label": PROJECT}
        found = client.containers(all=True, filters=any_label) + client.networks(filters=any_label)
        found += client.volumes(filters=any_label)["Volumes"] or ()
        projects = {one["Labels"][PROJECT] for one in found}
        own = sorted(name for name in projects if name.startswith(of_session()))
        return [f"{what} of project {name}" for name in own for what in labelled(client, name)]
    finally:
        client.close()


def labelled(client: docker.APIClient, project: str) -> list[str]:
    """Everything on the engine that carries the project's label."""
    mine = {"label": f"{PROJECT}={project}"}
    found = [one["Names"][0] for one in client.containers(all=True, filters=mine)]
    found += [f"network {one['Name']}" for one in client.networks(filters=mine)]
    return found + [f"volume {one['Name']}" for one in client.volumes(filters=mine)["Volumes"] or ()]


def sweep(client: docker.APIClient, project: str) -> None:
    mine = {"label": f"{PROJECT}={project}"}
    for one in client.containers(all=True, filters=mine):
        client.remove_container(one["Id"], force=True)
    for one in client.networks(filters=mine):
        client.remove_network(one["Id"])
    for one in client.volumes(filters=mine)["Volumes"] or ():
        client.remove_volume(one["Name"])


@contextmanager
def site_on_engine(**options: Any) -> Iterator[Site]:
    """A project with a name that nobody else has; nothing that carries it is left."""
    name = project_name()
    client = docker.APIClient(ADDRESS)
    runtime = DockerRuntime(name, ADDRESS, volumes=[Volume(f"{name}-data")], **options)
    try:
        yield Site(runtime, client, name)
    finally:
        sweep(client, name)
        left = labelled(client, name)
        runtime.close()
        client.close()
        assert not left
