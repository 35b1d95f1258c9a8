import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinelctl.chaos.experiments import chosen
from sentinelctl.chaos.history import make_history
from sentinelctl.chaos.installed import fakehub_at, installed
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.run import Pace, run_on_installed
from sentinelctl.errors import PreflightError, UnhealthyError, UsageError
from sentinelctl.fakehub.faults import Fault
from sentinelctl.fakehub.hub import TOKEN_USER
from sentinelctl.fakehub.server import Running, running_fakehub
from sentinelctl.lifecycle import Project
from sentinelctl.runtime.process import free_ports, start_token
from sentinelctl.runtime.statefile import Recorded, StateDir
from sentinelctl.state import Replica
from services.settings import load


@pytest.fixture
def fakehub(tmp_path: Path) -> Iterator[Running]:
    """Two repositories over one history."""
    with running_fakehub([make_history(tmp_path / "served", 5).path], copies=2) as running:
        yield running


def project_of(folder: Path, api_url: str) -> Project:
    """With one replica, which is this very process, under a supervisor that is it too."""
    state = StateDir(folder / "state")
    state.create()
    began = start_token(os.getpid()) or ""
    replica = Replica("webhook", 1, {}, pid=os.getpid(), started=began)
    state.write(Recorded(os.getpid(), began, str(folder / "none.sock"), (replica,)))
    environ = {
        "SENTINEL_PROJECT_STATE_DIR": str(state.path),
        "SENTINEL_PROJECT_RUNTIME": "embedded",
        "SENTINEL_GITHUB_API_URL": api_url,
        "SENTINEL_WEBHOOK_SECRET": secrets.token_hex(8),
    }
    return Project(load(None, environ))


def test_a_fakehub_is_known_by_what_it_serves_and_nobody_else_is_one(fakehub: Running) -> None:
    assert [one["full_name"] for one in fakehub_at(fakehub.url)] == ["local/served", "local/served-2"]
    free = free_ports({"none": "127.0.0.1"}, but=())["none"]
    assert fakehub_at(f"http://127.0.0.1:{free}") == []
    assert fakehub_at(f"{fakehub.url}/api/v3") == []


def test_what_a_fakehub_elsewhere_serves_and_shows_is_seen_and_its_faults_are_put_there(
    fakehub: Running, tmp_path: Path
) -> None:
    served = fakehub.hub.repositories[1]
    journal = Journal.begun(tmp_path / "run")
    with installed(project_of(tmp_path, fakehub.url), journal, i_know=False) as (stack, may_send):
        assert may_send
        assert [(one.id, one.full_name) for one in stack.hub.repositories] == [
            (one.id, one.full_name) for one in fakehub.hub.repositories
        ]
        assert len(stack.made.shas) == 5
        fakehub.hub.create_commit_comment(served, stack.made.shas[2], TOKEN_USER, {"body": "a review"})
        assert [one.unit.repository_id for one in stack.visible()] == [served.id]
        placed = stack.hub.faults.put(Fault(kind="status", status=503, path="/never"))
        assert [one["id"] for one in fakehub.hub.faults.listed()] == [placed.id]
        stack.hub.faults.clear()
        assert [one["is_over"] for one in stack.hub.faults.listed()] == [True]


def test_another_forge_is_refused_unless_somebody_knows_and_then_nothing_is_sent(tmp_path: Path) -> None:
    project = project_of(tmp_path, "http://127.0.0.1:9")
    with (
        pytest.raises(PreflightError, match=r"http://127\.0\.0\.1:9, is no fakehub"),
        installed(project, Journal.begun(tmp_path / "one"), i_know=False),
    ):
        pass
    with installed(project, Journal.begun(tmp_path / "two"), i_know=True) as (stack, may_send):
        assert not may_send
        assert stack.visible() == []


def test_where_nothing_runs_there_is_nothing_to_break(tmp_path: Path) -> None:
    environ = {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "empty"), "SENTINEL_PROJECT_RUNTIME": "embedded"}
    with (
        pytest.raises(UnhealthyError, match="nothing runs here"),
        installed(Project(load(None, environ)), Journal.begun(tmp_path / "run"), i_know=True),
    ):
        pass


@pytest.mark.parametrize("name", ["claims-lost", "disk-full", "rebalance-storm", "poison-all", "clock-publisher"])
def test_what_would_change_data_is_done_to_no_installation(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"{name} changes data"):
        run_on_installed(chosen([name])[0], project_of(tmp_path, "http://127.0.0.1:9"), Pace(), tmp_path / "home")
    assert not (tmp_path / "home").exists()
