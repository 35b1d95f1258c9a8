import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from sentinelctl.catalog import configured
from sentinelctl.errors import PreflightError, UnhealthyError, UsageError
from sentinelctl.lifecycle import Project, check_claims, check_secrets
from sentinelctl.runtime.base import Applied, LogLine, Progress, Usage, unseen
from sentinelctl.runtime.process import free_ports
from sentinelctl.state import Kind, ObservedState, Operation, Plan, Replica, ServiceSpec
from services.counts import write_counts
from services.settings import Settings, load
from tests.contracts.mock_broker import API_VERSION, MockBroker


def settings(tmp_path: Path, **environ: str) -> Settings:
    return load(None, {"SENTINEL_PROJECT_STATE_DIR": str(tmp_path / "state"), **environ})


@pytest.mark.parametrize(
    ("services", "environ", "fault"),
    [
        pytest.param(["webhook"], {}, "no webhook secret is set", id="secret"),
        pytest.param(["webhook"], {"SENTINEL_WEBHOOK_SECRET": " "}, "no webhook secret is set", id="blank"),
        pytest.param(["webhook"], {"SENTINEL_WEBHOOK_SECRET": "s"}, "", id="secret set"),
        pytest.param(["inference"], {}, "", id="needs none"),
        pytest.param(["publisher"], {}, "no GitHub token is set", id="token"),
        pytest.param(["extractor"], {"SENTINEL_GITHUB_TOKEN": "t"}, "", id="token set"),
        pytest.param(
            ["extractor"], {"SENTINEL_GITHUB_API_URL": "http://127.0.0.1:1"}, "no GitHub token is set", id="local"
        ),
        pytest.param(["publisher"], {"SENTINEL_GITHUB_APP_ID": "7"}, "private key is not set", id="an App without key"),
        pytest.param(["publisher"], {"SENTINEL_GITHUB_APP_ID": "7", "SENTINEL_GITHUB_APP_KEY": "k"}, "", id="an App"),
    ],
)
def test_a_missing_secret_is_named_with_its_variable(
    tmp_path: Path, services: list[str], environ: dict[str, str], fault: str
) -> None:
    given = settings(tmp_path, **environ)
    if not fault:
        check_secrets(given, services)
        return
    with pytest.raises(PreflightError, match=fault) as caught:
        check_secrets(given, services)
    assert "export SENTINEL_" in caught.value.remedy


def test_up_refuses_a_redis_it_cannot_reach_unless_nothing_needs_it(tmp_path: Path) -> None:
    (port,) = free_ports({"redis": "127.0.0.1"}, but=[]).values()
    environ = {"SENTINEL_WEBHOOK_SECRET": "s", "SENTINEL_GITHUB_TOKEN": "t", "SENTINEL_CLAIMS_KIND": "redis"}
    ports = {f"SENTINEL_{role}_METRICS_PORT": "0" for role in ("INFERENCE", "EXTRACTOR", "PUBLISHER")}
    ports["SENTINEL_PROMETHEUS_PORT"] = "0"
    environ |= {"SENTINEL_WEBHOOK_PORT": "0", "SENTINEL_INFERENCE_PORT": "0", **ports}
    project = Project(settings(tmp_path, SENTINEL_CLAIMS_URL=f"redis://127.0.0.1:{port}", **environ))
    with pytest.raises(PreflightError, match=rf"Redis at 127\.0\.0\.1:{port} did not serve: .*; start it") as caught:
        project.plan_up()
    assert caught.value.exit_code == 3
    assert [operation.service for operation in project.plan_up(["inference"]).operations] == ["inference"]


def test_up_names_certificates_of_redis_that_are_not_there(tmp_path: Path) -> None:
    given = settings(
        tmp_path,
        SENTINEL_CLAIMS_KIND="redis",
        SENTINEL_CLAIMS_URL="rediss://127.0.0.1",
        SENTINEL_CLAIMS_CA_FILE=str(tmp_path / "none.pem"),
    )
    with pytest.raises(PreflightError, match=r"claims\.ca_file names .*none\.pem"):
        check_claims(given)


def replicas(project: Project) -> dict[str, int]:
    return {spec.name: spec.replicas for spec in project.desired()}


def test_an_operators_count_holds_until_down_or_until_the_settings_change_theirs(tmp_path: Path) -> None:
    project = Project(settings(tmp_path))
    project.state_dir.create()
    project.remember_scale({"extractor": 3})
    assert replicas(Project(settings(tmp_path)))["extractor"] == 3
    assert replicas(Project(settings(tmp_path, SENTINEL_EXTRACTOR_REPLICAS="2")))["extractor"] == 2
    project.forget_scale()
    assert replicas(project)["extractor"] == 1


def test_the_autoscalers_count_outlives_an_up_and_an_operators_goes_first(tmp_path: Path) -> None:
    project = Project(settings(tmp_path, SENTINEL_AUTOSCALER_ENABLED="true"))
    project.state_dir.create()
    write_counts(project.state_dir.autoscale, {"extractor": 4, "webhook": 2}, configured(project.settings))
    assert (replicas(project)["extractor"], replicas(project)["webhook"]) == (4, 1)
    project.remember_scale({"extractor": 2})
    assert replicas(project)["extractor"] == 2
    project.hand_back(["extractor"])
    assert replicas(project)["extractor"] == 4
    assert replicas(Project(settings(tmp_path)))["extractor"] == 1, "nobody decides any more"


def test_the_receiver_runs_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="webhook has one address"):
        Project(settings(tmp_path)).plan_scale({"webhook": 2})


def test_only_what_sentinel_wrote_is_deleted(tmp_path: Path) -> None:
    project = Project(settings(tmp_path))
    project.prepare()
    project.remember_scale({"extractor": 3})
    project.state_dir.log_of("extractor-1").write_text("a line\n")
    state = tmp_path / "state"
    (state / "notes.txt").write_text("mine")
    assert {path.name for path in project.delete_data()} >= {"log.sqlite", "extractor-1.log", "scale.json"}
    assert [path.name for path in state.iterdir()] == ["notes.txt"]


def test_a_log_with_fewer_partitions_than_configured_is_left_as_it_is(tmp_path: Path) -> None:
    Project(settings(tmp_path, SENTINEL_STREAM_PARTITIONS="3")).prepare()
    with pytest.raises(
        PreflightError, match=r"stream\.partitions = 12: push-events has 3, .*reviews-dlq has 3"
    ) as caught:
        Project(settings(tmp_path)).prepare()
    assert "set stream.partitions = 3" in caught.value.remedy
    Project(settings(tmp_path, SENTINEL_STREAM_PARTITIONS="2")).prepare()


def test_brokers_that_send_containers_to_themselves_are_refused_before_a_topic_is_made(tmp_path: Path) -> None:
    with MockBroker() as broker:
        given = settings(
            tmp_path, SENTINEL_PROJECT_RUNTIME="docker", SENTINEL_STREAM_KIND="kafka",
            SENTINEL_STREAM_BOOTSTRAP=broker.bootstrap.replace("127.0.0.1", "localhost"),
            SENTINEL_STREAM_API_VERSION=API_VERSION,
        )  # fmt: skip
        with pytest.raises(PreflightError, match=r"tell every client to go on at 127\.0\.0\.1") as caught:
            Project(given).prepare()
    assert "advertised.listeners" in caught.value.remedy


class Recording:
    """A runtime that writes down what it is told, and has to kill the replicas named."""

    name = "recording"
    at_once = 2

    def __init__(self, *stubborn: str, meet: threading.Barrier | None = None) -> None:
        """`meet`: where starts wait for each other."""
        self.stubborn, self.meet = stubborn, meet
        self.done: list[str] = []

    def observe(self) -> ObservedState:
        return ObservedState()

    def check(self, plan: Plan) -> None: ...

    def resolve(self, desired: Sequence[ServiceSpec]) -> tuple[ServiceSpec, ...]:
        return tuple(desired)

    def needs(self, plan: Plan) -> tuple[Operation, ...]:
        return ()

    def leftovers(self, *, with_volumes: bool) -> tuple[Operation, ...]:
        return ()

    def answer_fault(self, replica: Replica) -> str:
        return ""

    def logged(self) -> list[str]:
        return []

    def apply(self, operation: Operation, progress: Progress = unseen) -> Applied:
        if self.meet and operation.kind is Kind.START:
            self.meet.wait(timeout=60)
        self.done.append(f"{operation.kind} {operation.replica}")
        return Applied(None, was_killed=operation.replica in self.stubborn)

    def logs(self, names: Collection[str], *, lines: int, follow: bool = False) -> Iterator[LogLine]:
        yield from ()

    def usage(self, *, over_s: float) -> dict[str, Usage]:
        return {}

    def close(self) -> None: ...


def test_what_had_to_be_killed_is_said_after_all_else_is_done(tmp_path: Path) -> None:
    project = Project(settings(tmp_path))
    project.runtime = recording = Recording("b-1")
    stops = Plan(tuple(Operation(Kind.STOP, name, 1, "test") for name in "abc"))
    with pytest.raises(UnhealthyError, match="b-1 did not end in time"):
        project.apply(stops)
    assert recording.done == ["stop a-1", "stop b-1", "stop c-1"]


def test_starts_go_side_by_side_after_what_comes_before_them_and_are_told_in_order(tmp_path: Path) -> None:
    """Each start returns only once the other is at work, too."""
    project = Project(settings(tmp_path))
    project.runtime = recording = Recording(meet=threading.Barrier(2))
    spec = ServiceSpec("b", ("true",))
    starts = [Operation(Kind.START, "b", number, "test", spec) for number in (2, 3)]
    told: list[str] = []
    project.apply(
        Plan((Operation(Kind.STOP, "a", 1, "test"), *starts)),
        ready_s=None,
        report=lambda operation, _applied: told.append(operation.replica),
    )
    assert told == ["a-1", "b-2", "b-3"]
    assert recording.done[0] == "stop a-1"


def test_what_is_replaced_is_ready_before_the_next_is_touched(tmp_path: Path) -> None:
    project = Project(settings(tmp_path))
    project.runtime = recording = Recording()
    plan = Plan(tuple(Operation(Kind.REPLACE, name, 1, "test") for name in "ab"))
    with pytest.raises(UnhealthyError, match="a-1 is not ready after 0 s"):
        project.apply(plan, ready_s=0)
    assert recording.done == ["replace a-1"]


def test_the_password_of_grafanas_admin_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    external = {"SENTINEL_STREAM_KIND": "sqlite", "SENTINEL_CLAIMS_KIND": "sqlite"}
    project = Project(settings(tmp_path, SENTINEL_PROJECT_RUNTIME="docker", **external))
    path = project.state_dir.grafana_password

    def given() -> str:
        return next(spec for spec in project.desired() if spec.name == "grafana").secrets["GF_SECURITY_ADMIN_PASSWORD"]

    assert given() != given(), "nobody keeps one before `up`"
    assert not path.exists()
    project.prepare()
    assert given() == given() == path.read_text()
    assert len(given()) > 20
    assert path.stat().st_mode & 0o777 == 0o600
    assert path in project.data_files()
