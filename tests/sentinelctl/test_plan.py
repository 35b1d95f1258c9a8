from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinelctl.plan import plan, plan_down, plan_restart
from sentinelctl.state import Kind, ObservedState, Plan, Replica, ServiceSpec, Status


def spec(name: str, replicas: int = 1, level: str = "info") -> ServiceSpec:
    return ServiceSpec(name, ("run", name), env={"LEVEL": level}, replicas=replicas)


def running(of: ServiceSpec, *indexes: int) -> tuple[Replica, ...]:
    return tuple(Replica(of.name, index, of.identity, pid=100 + index) for index in indexes)


def applied(found: Plan, observed: ObservedState) -> ObservedState:
    """What a runtime that does as it is told leaves behind."""
    there = {replica.name: replica for replica in observed.replicas}
    for operation in found.operations:
        if operation.kind is Kind.STOP:
            del there[operation.replica]
            continue
        assert operation.spec is not None
        assert (operation.kind is Kind.START) == (operation.replica not in there)
        if operation.kind is Kind.ADOPT:
            there[operation.replica] = replace(there[operation.replica], is_supervised=True)
        else:
            there[operation.replica] = Replica(operation.service, operation.index, operation.spec.identity)
    return ObservedState(tuple(there.values()))


A, B = spec("a"), spec("b")


@pytest.mark.parametrize(
    ("desired", "observed", "operations"),
    [
        pytest.param(
            [A, B], (), ["start a-1: none was running", "start b-1: none was running"], id="from nothing, in order"
        ),
        pytest.param([A, B], (*running(A, 1), *running(B, 1)), [], id="nothing differs"),
        pytest.param([spec("a", 3)], running(A, 1), ["start a-2: scale 1 → 3", "start a-3: scale 1 → 3"], id="grow"),
        pytest.param(
            [spec("a", 1)], running(A, 1, 2, 3), ["stop a-3: scale 3 → 1", "stop a-2: scale 3 → 1"], id="shrink"
        ),
        pytest.param([spec("a", 0)], running(A, 1), ["stop a-1: scale 1 → 0"], id="to none"),
        pytest.param([spec("a", 2)], running(A, 2), ["start a-1: scale 1 → 2"], id="a gap is filled"),
        pytest.param(
            [spec("a", level="debug")], running(A, 1), ["replace a-1: changed: LEVEL"], id="a setting changed"
        ),
        pytest.param(
            [A], [replace(running(A, 1)[0], is_supervised=False)], ["adopt a-1: its supervisor is gone"], id="adopt"
        ),
        pytest.param(
            [spec("a", level="debug")],
            [replace(running(A, 1)[0], is_supervised=False)],
            ["replace a-1: changed: LEVEL"],
            id="unsupervised and out of date",
        ),
        pytest.param(
            [A],
            [replace(running(A, 1)[0], status=Status.BACKING_OFF, last_exit="exit 2")],
            ["replace a-1: backing-off: exit 2"],
            id="what crashed is tried at once",
        ),
        pytest.param([A], (*running(A, 1), *running(B, 1)), ["stop b-1: not a service of this version"], id="unknown"),
    ],
)
def test_a_plan_is_the_difference_with_its_causes(
    desired: list[ServiceSpec], observed: tuple[Replica, ...], operations: list[str]
) -> None:
    found = plan(desired, ObservedState(tuple(observed)))
    assert [f"{one.kind} {one.replica}: {one.cause}" for one in found.operations] == operations


def test_a_service_that_was_not_named_is_left_alone() -> None:
    found = plan([spec("a", 2), spec("b", level="debug")], ObservedState(running(B, 1)), only={"a"})
    assert [one.replica for one in found.operations] == ["a-1", "a-2"]


def test_superfluous_replicas_go_before_anything_is_started() -> None:
    found = plan([spec("a", 2), spec("b", 1)], ObservedState(running(B, 1, 2)))
    assert [one.replica for one in found.operations] == ["b-2", "a-1", "a-2"]


def test_down_stops_in_the_reverse_of_the_start_order_and_strangers_first() -> None:
    observed = ObservedState((*running(A, 1, 2), *running(B, 1), *running(spec("old"), 1)))
    assert [one.replica for one in plan_down([A.name, B.name], observed).operations] == ["old-1", "b-1", "a-2", "a-1"]


def test_restart_replaces_each_running_replica_and_starts_none() -> None:
    observed = ObservedState(running(A, 1, 2))
    found = plan_restart([spec("a", 3), B], observed, {"a", "b"})
    assert [(one.kind, one.replica) for one in found.operations] == [(Kind.REPLACE, "a-1"), (Kind.REPLACE, "a-2")]


def test_a_plan_never_shows_a_secret() -> None:
    one = ServiceSpec("a", ("run",), secrets={"TOKEN": "hunter2"}, digests={"TOKEN": "digest"})
    found = plan([one], ObservedState())
    assert "hunter2" not in repr(found) + repr(found.document()) + repr(one.identity)


SPECS = st.lists(
    st.builds(spec, st.sampled_from("abcd"), st.integers(0, 4), st.sampled_from(["info", "debug"])),
    unique_by=lambda one: one.name,
)
REPLICAS = st.lists(
    st.builds(
        lambda of, index, status, is_supervised: Replica(
            of.name, index, of.identity, status=status, is_supervised=is_supervised
        ),
        st.builds(spec, st.sampled_from("abcde"), st.just(1), st.sampled_from(["info", "debug"])),
        st.integers(1, 6),
        st.sampled_from(Status),
        st.booleans(),
    ),
    unique_by=lambda replica: replica.name,
)


@given(SPECS, REPLICAS)
def test_what_a_plan_leads_to_needs_no_further_plan(desired: list[ServiceSpec], replicas: list[Replica]) -> None:
    observed = ObservedState(tuple(replicas))
    reached = applied(plan(desired, observed), observed)
    assert plan(desired, reached).operations == ()
    assert {(one.service, one.index) for one in reached.replicas} == {
        (one.name, index) for one in desired for index in range(1, one.replicas + 1)
    }


@given(SPECS, REPLICAS)
def test_after_down_nothing_is_left(desired: list[ServiceSpec], replicas: list[Replica]) -> None:
    observed = ObservedState(tuple(replicas))
    assert applied(plan_down([one.name for one in desired], observed), observed).replicas == ()
