"""One experiment: steady state, load, fault, recovery, account. Whatever ends it, what it changed is undone."""

import contextlib
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from sentinelctl.chaos import guard
from sentinelctl.chaos.experiments import Experiment
from sentinelctl.chaos.faults import Deviation, Poison, Unsupported, Window, poison
from sentinelctl.chaos.history import make_history
from sentinelctl.chaos.installed import installed
from sentinelctl.chaos.journal import Journal
from sentinelctl.chaos.load import ON_INSTALLED, PUSHES, Arrival, Load, planned
from sentinelctl.chaos.stack import Stack, eventually, running
from sentinelctl.chaos.verdict import Observed, Sample, Verdict, judged
from sentinelctl.errors import SentinelError, UsageError
from sentinelctl.ledger import Account, account
from sentinelctl.runtime.base import Progress, unseen

if TYPE_CHECKING:
    from sentinelctl.lifecycle import Project
    from services.settings import Settings

_COPIES: Final = 12
_WARM_UP: Final = 3
_STEADY_S: Final = 45.0
_FAULT_FROM: Final = 0.15
_FAULT_FOR: Final = 0.75
"""Parts of the load's time."""
_SAMPLE_EVERY_S: Final = 0.25
_QUIET_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Pace:
    """rate: deliveries a second, each at its own time. duration_s: of the load. latency_ms: the forge's."""

    rate: float = 2.0
    duration_s: float = 60.0
    latency_ms: float = 100.0
    seed: int = 1


@dataclass
class Result:
    experiment: Experiment
    pace: Pace
    verdict: Verdict
    reasons: list[str]
    observed: Observed
    runtime: str = "embedded"
    kept: str = ""
    """Where the services' logs of a run that did not pass lie; empty for those of an installation."""

    @classmethod
    def without_a_stack(cls, experiment: Experiment, pace: Pace, runtime: str, why: SentinelError) -> Self:
        """Of one whose stack did not come up, among others that may."""
        observed = Observed(steady=f"its stack did not come up: {why.message}")
        return cls(experiment, pace, *judged(observed, experiment.hypothesis), observed, runtime)

    def summary(self) -> dict[str, Any]:
        observed = self.observed
        endings: dict[str, int] = {}
        for ending in observed.account.endings.values():
            endings[ending] = endings.get(ending, 0) + 1
        return {
            "experiment": self.experiment.name,
            "fault": self.experiment.fault.what,
            "verdict": self.verdict.value,
            "reasons": self.reasons,
            "seen": observed.seen,
            "runtime": self.runtime,
            "seed": self.pace.seed,
            "rate": self.pace.rate,
            "duration_s": self.pace.duration_s,
            "sent": len(observed.sent),
            "acknowledged": sum(one.is_acknowledged for one in observed.sent),
            "attempts": sum(one.attempts for one in observed.sent),
            "endings": endings,
            "lost": observed.account.count("lost"),
            "duplicates": observed.account.duplicates,
            "stale": len(observed.account.stale),
            "unexplained_dead_letters": len(observed.account.unexplained),
            "in_flight": observed.in_flight,
            "recover_s": round(observed.recover_s, 2),
            "drain_s": round(observed.drain_s, 2),
            "kept": self.kept,
        }

    def journal(self) -> dict[str, Any]:
        """All that the verdict rests on: the ledger, delivery by delivery, and the timeline."""
        observed = self.observed
        stages: dict[str, list[dict[str, Any]]] = {}
        for stage in observed.stages:
            about = {name: stage[name] for name in ("topic", "partition", "offset", "at")}
            stages.setdefault(stage["delivery_id"], []).append(about)
        found = observed.account
        names = iter(found.endings)
        deliveries = []
        for one, name in zip(sorted(observed.sent, key=lambda each: each.sent_at_ns), names, strict=True):
            deliveries.append(
                {
                    "delivery_id": one.delivery_id,
                    "repository_id": one.unit.repository_id,
                    "pull_number": one.unit.number,
                    "head": one.unit.sha,
                    "sent_at": one.sent_at_ns / 1e9,
                    "acknowledged_at": one.acknowledged_at_ns / 1e9,
                    "status": one.status,
                    "answer": one.answer,
                    "attempts": one.attempts,
                    "stages": stages.get(one.delivery_id, []),
                    "ending": found.endings[name],
                    "reason": found.reasons[name],
                    "ended_at": found.ended_at_ns.get(name, 0) / 1e9,
                }
            )
        times = {name: getattr(observed, name) for name in ("began", "fault_from", "fault_to", "last_sent", "settled")}
        samples = [
            {"at": one.at, "sent": one.sent, "acknowledged": one.acknowledged, "visible": one.visible, "lag": one.lag}
            for one in observed.samples
        ]
        return {**self.summary(), "times": times, "deliveries": deliveries, "timeline": samples}


def run(
    experiment: Experiment,
    base: "Settings",
    pace: Pace,
    home: Path,
    *,
    tell: Callable[[str], None] = lambda _text: None,
    progress: Progress = unseen,
) -> Result:
    """`base`: the user's settings, of which the stack takes what is not its own. `home` holds a folder for each run."""

    @contextlib.contextmanager
    def own_stack(journal: Journal) -> Iterator[tuple[Stack, bool]]:
        commits = -(-(_WARM_UP + round(pace.rate * pace.duration_s)) // _COPIES) + 4
        made = make_history(journal.folder / "served", commits, wide_files=experiment.wide_files)
        with running(
            base,
            made,
            journal,
            own=experiment.own,
            proxied=experiment.proxied,
            has_redis=experiment.has_redis,
            copies=_COPIES,
            latency_ms=pace.latency_ms,
            progress=progress,
        ) as stack:
            yield stack, True

    return _run(experiment, pace, home, own_stack, tell, base.project.runtime)


def run_on_installed(
    experiment: Experiment,
    project: "Project",
    pace: Pace,
    home: Path,
    *,
    i_know: bool = False,
    tell: Callable[[str], None] = lambda _text: None,
) -> Result:
    """On what runs already. Raises as `installed()` does, and UsageError where the experiment would change data."""
    if not experiment.is_for_installed:
        raise UsageError(
            f"{experiment.name} changes data, settings or the number of replicas: it needs a stack of its own",
            remedy="leave --here out",
        )
    experiment = replace(experiment, mix=ON_INSTALLED)
    open_stack = partial(installed, project, i_know=i_know)
    return _run(experiment, pace, home, open_stack, tell, project.runtime.name)


def _run(
    experiment: Experiment,
    pace: Pace,
    home: Path,
    open_stack: Callable[[Journal], contextlib.AbstractContextManager[tuple[Stack, bool]]],
    tell: Callable[[str], None],
    runtime: str,
) -> Result:
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{experiment.name}-{pace.seed}-{time.time_ns() % 10**6}"
    journal = Journal.begun(home / name)
    watcher = guard.start(journal)
    observed, kept, has_begun = Observed(), "", False
    try:
        with open_stack(journal) as (stack, may_send):
            has_begun = True
            try:
                _on(stack, experiment, pace, observed, tell, may_send=may_send)
            finally:
                stack.hub.faults.clear()
    finally:
        journal.heal()
        watcher.wait()
        # Of a stack that did not come up there are logs to read, of words that made no sense there is nothing.
        left = journal.folder / "served" if has_begun or (journal.folder / "state").exists() else journal.folder
        shutil.rmtree(left, ignore_errors=True)
    verdict, reasons = judged(observed, experiment.hypothesis)
    if verdict is Verdict.PASSED or not (journal.folder / "state").exists():
        shutil.rmtree(journal.folder, ignore_errors=True)
    else:
        kept = str(journal.folder / "state" / "logs")
    return Result(experiment, pace, verdict, reasons, observed, runtime, kept)


def _on(
    stack: Stack,
    experiment: Experiment,
    pace: Pace,
    observed: Observed,
    tell: Callable[[str], None],
    *,
    may_send: bool,
) -> None:
    load = Load(stack.hub, stack.made, stack.settings.webhook.secret.get_secret_value(), stack.url, pace.seed)
    observed.began = time.time()
    warm_up: list[Arrival] = []
    arrivals: list[Arrival] = []
    if may_send:
        units = _units(stack)
        warm_up = planned(PUSHES, units[:_WARM_UP], rate=5, duration_s=_WARM_UP / 5, seed=pace.seed)
        arrivals = planned(experiment.mix, units[_WARM_UP:], rate=pace.rate, duration_s=pace.duration_s, seed=pace.seed)
    try:
        with _sampling(stack, load, observed):
            observed.steady = _steady(stack, load, warm_up)
            if observed.steady:
                return
            tell(f"steady; {len(arrivals)} deliveries at {pace.rate:g}/s")
            _under_load(stack, load, experiment, pace, arrivals, observed, tell)
            _settle(stack, load, experiment, observed)
    finally:
        load.close()
        observed.sent = load.snapshot()
    observed.stages = stack.stages()
    observed.account = _account(stack, load)


def _units(stack: Stack) -> list[tuple[int, int]]:
    """A commit and a repository each, that nobody has pushed yet as far as the forge shows."""
    shas, repositories = stack.made.shas, stack.hub.repositories
    seen = {(one.unit.repository_id, one.unit.sha) for one in stack.visible()}
    return [
        (commit, number)
        for commit in range(len(shas) - 3)
        for number, repository in enumerate(repositories)
        if (repository.id, shas[commit + 1]) not in seen
    ]


def _account(stack: Stack, load: Load) -> Account:
    """Of what this run sent: an installation may have other traffic."""
    sent = load.snapshot()
    units, names = {one.unit for one in sent}, {one.delivery_id for one in sent}
    words = {name: word for name, word in stack.words().items() if name in names}
    return account(sent, [one for one in stack.visible() if one.unit in units], words, load.facts)


def _steady(stack: Stack, load: Load, warm_up: list[Arrival]) -> str:
    """Everything is ready, and a few pushes are reviewed; else why not."""
    if not stack.await_ready(_STEADY_S):
        return f"before the fault, not ready: {'; '.join(stack.not_ready().values())}"
    load.run(warm_up)

    def all_shown() -> bool:
        return account(load.snapshot(), stack.visible()).count("reviewed") == len(warm_up)

    if not eventually(all_shown, within_s=_STEADY_S):
        return f"before the fault, {len(warm_up)} pushes were not all reviewed within {_STEADY_S:.0f} s"
    return ""


def _under_load(
    stack: Stack,
    load: Load,
    experiment: Experiment,
    pace: Pace,
    arrivals: list[Arrival],
    observed: Observed,
    tell: Callable[[str], None],
) -> None:
    chance = random.Random(f"{experiment.name} {pace.seed}")  # noqa: S311 - drawn by a seed on purpose
    if isinstance(experiment.fault, Poison) and arrivals:
        poison(stack, load, load.unit(chance.choice(arrivals[: max(1, len(arrivals) // 3)])))
    failed: list[BaseException] = []

    def send() -> None:
        try:
            load.run(arrivals)
        except BaseException as exc:  # noqa: BLE001 - raised where the run waits for it
            failed.append(exc)

    sender = threading.Thread(target=send, name="load", daemon=True)
    sender.start()
    try:
        time.sleep(pace.duration_s * _FAULT_FROM)
        tell(experiment.fault.what)
        observed.fault_from = time.time()
        try:
            observed.seen = experiment.fault.strike(stack, load, Window(max(1.0, pace.duration_s * _FAULT_FOR), chance))
        except Deviation as exc:
            observed.broken.append(str(exc))
        except Unsupported as exc:
            observed.cannot = str(exc)
        observed.fault_to = time.time()
        tell(observed.seen or observed.cannot or "; ".join(observed.broken) or "it was not seen to bite")
        sender.join()
    finally:
        load.stop()
        sender.join()
    if failed:
        raise failed[0]
    observed.last_sent = max((one.sent_at_ns for one in load.snapshot()), default=0) / 1e9


def _settle(stack: Stack, load: Load, experiment: Experiment, observed: Observed) -> None:
    """Until everything has ended and is committed, or what the hypothesis allows is over.

    With everything committed for a while, what has not ended never will.
    """
    committed_since = 0.0

    def is_over() -> bool:
        nonlocal committed_since
        if sum(stack.lag().values()) or stack.not_ready():
            committed_since = 0.0
            return False
        committed_since = committed_since or time.monotonic()
        return _account(stack, load).count("lost") == 0 or time.monotonic() - committed_since > _QUIET_S

    if eventually(is_over, within_s=experiment.hypothesis.drain_s, every_s=0.5):
        observed.settled = time.time()
        time.sleep(4 * _SAMPLE_EVERY_S)  # a repeated review would show now


@contextlib.contextmanager
def _sampling(stack: Stack, load: Load, observed: Observed) -> Iterator[None]:
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(_SAMPLE_EVERY_S):
            try:
                lag: int | None = sum(stack.lag().values())
            except Exception:  # noqa: BLE001 - the log is what the fault may be about
                lag = None
            sent = load.snapshot()
            taken = sum(one.is_acknowledged for one in sent)
            observed.samples.append(Sample(time.time(), load.started, taken, len(stack.hub.visible()), lag))

    thread = threading.Thread(target=look, name="samples", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
