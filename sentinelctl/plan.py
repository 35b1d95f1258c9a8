"""The difference between what should run and what does, as operations with their causes. Pure."""

from collections.abc import Collection, Mapping, Sequence

from sentinelctl.state import Kind, ObservedState, Operation, Plan, Replica, ServiceSpec, Status

_NAMED_CHANGES = 3


def plan(desired: Sequence[ServiceSpec], observed: ObservedState, *, only: Collection[str] | None = None) -> Plan:
    """What leads from `observed` to `desired`, in start order; `only`: nothing else is touched.

    Superfluous replicas go first, the highest number first. Empty when nothing differs.
    """
    specs = [spec for spec in desired if only is None or spec.name in only]
    stops: list[Operation] = []
    if only is None:
        known = {spec.name for spec in desired}
        stops += [_stop(r, "not a service of this version") for r in observed.replicas if r.service not in known]
    for spec in reversed(specs):
        running = observed.of(spec.name)
        stops += [
            _stop(replica, f"scale {len(running)} → {spec.replicas}")
            for replica in reversed(running)
            if not 1 <= replica.index <= spec.replicas
        ]
    return Plan((*stops, *(operation for spec in specs for operation in _converge(spec, observed.of(spec.name)))))


def plan_restart(desired: Sequence[ServiceSpec], observed: ObservedState, services: Collection[str]) -> Plan:
    """Every running replica of `services` anew, one after the other."""
    return Plan(
        tuple(
            Operation(Kind.REPLACE, spec.name, replica.index, "restart was asked for", spec)
            for spec in desired
            if spec.name in services
            for replica in observed.of(spec.name)
        )
    )


def plan_down(start_order: Sequence[str], observed: ObservedState) -> Plan:
    """Stops everything, in the reverse of the order in which services start."""
    order = {service: position for position, service in enumerate(start_order)}
    last_first = sorted(
        observed.replicas, key=lambda replica: (order.get(replica.service, len(order)), replica.index), reverse=True
    )
    return Plan(tuple(_stop(replica, "down was asked for") for replica in last_first))


def _converge(spec: ServiceSpec, running: Sequence[Replica]) -> list[Operation]:
    by_index = {replica.index: replica for replica in running}
    operations = []
    for index in range(1, spec.replicas + 1):
        replica = by_index.get(index)
        if replica is None:
            cause = f"scale {len(running)} → {spec.replicas}" if running else "none was running"
            operations.append(Operation(Kind.START, spec.name, index, cause, spec))
        elif changed := _changed(replica.identity, spec.identity):
            operations.append(Operation(Kind.REPLACE, spec.name, index, f"changed: {changed}", spec))
        elif replica.status is not Status.RUNNING:
            cause = f"{replica.status}: {replica.last_exit}" if replica.last_exit else replica.status.value
            operations.append(Operation(Kind.REPLACE, spec.name, index, cause, spec))
        elif not replica.is_supervised:
            operations.append(Operation(Kind.ADOPT, spec.name, index, "its supervisor is gone", spec))
    return operations


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    """Names alone: a value can be long, and its name says what was edited."""
    names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    shown = ", ".join(names[:_NAMED_CHANGES])
    return f"{shown} and {len(names) - _NAMED_CHANGES} more" if len(names) > _NAMED_CHANGES else shown


def _stop(replica: Replica, cause: str) -> Operation:
    return Operation(Kind.STOP, replica.service, replica.index, cause)
