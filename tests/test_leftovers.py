"""Shows that what a session of tests leaves on the engine is noticed, by sessions that do and that do not."""

import os
import subprocess
import sys
from pathlib import Path

import docker
import pytest

from tests.docker_engine import ADDRESS, PYTHON_IMAGE, needs_engine, sweep

pytestmark = needs_engine()

_ROOT = Path(__file__).parents[1]
_TEST = f"""
from pathlib import Path
import docker
from sentinelctl.runtime.docker import PROJECT
from tests.docker_engine import ADDRESS, project_name, sweep

def test_it():
    client, name = docker.APIClient(ADDRESS), project_name()
    Path(__file__).with_name("name").write_text(name)
    labels = {{PROJECT: name}}
    client.create_volume(f"{{name}}-data", labels=labels)
    client.create_network(f"{{name}}-net", labels=labels)
    client.create_container({PYTHON_IMAGE!r}, command="true", name=f"{{name}}-fake-1", labels=labels)
    if SWEEPS:
        sweep(client, name)
    client.close()
"""


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("sweeps", [True, False])
def test_a_session_that_leaves_a_labelled_object_behind_fails_and_names_it(
    tmp_path: Path, sweeps: bool, workers: str
) -> None:
    (tmp_path / "test_inner.py").write_text(f"SWEEPS = {sweeps}\n{_TEST}")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", str(_ROOT / "pyproject.toml"), "-n", workers,
         "-p", "no:cacheprovider", str(tmp_path)],
        cwd=_ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    name = (tmp_path / "name").read_text()
    client = docker.APIClient(ADDRESS)
    try:
        left = [f"/{name}-fake-1", f"network {name}-net", f"volume {name}-data"]
        assert "1 passed" in done.stdout, done.stdout
        assert done.returncode == (0 if sweeps else 1), done.stdout
        said = done.stdout.partition("left on the Docker engine")[2]
        assert [line for line in said.splitlines() if name in line] == (
            [] if sweeps else [f"{one} of project {name}" for one in left]
        )
    finally:
        sweep(client, name)
        client.close()
