"""Looks, decides by the policy, asks for replicas, and writes down why."""

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import structlog

from services.autoscaler.policy import Decision, Rule, Sample, Span, State, decide
from services.autoscaler.replicas import Actor, Counts, Pages, Unseen
from services.contract import READERS, Topic
from services.counts import read_decisions, replace_text
from services.errors import BusUnavailable
from services.settings import Settings
from services.stream.base import Admin
from services.telemetry import Metrics

log = structlog.get_logger(__name__)

KEPT: Final = 500
"""Decisions in the journal."""
_TOPICS: Final[Mapping[str, Topic]] = {group.value: topic for topic, group in READERS.items()}


def rules(settings: Settings) -> dict[str, Rule]:
    """Of each service that is scaled; a group has the name of its service."""
    own = settings.autoscaler
    shared: dict[str, float] = {
        "tolerance": own.tolerance,
        "cooldown_s": own.cooldown_s,
        "stabilise_s": own.stabilise_s,
        "stall_s": own.stall_s,
    }
    return {
        "extractor": Rule(settings.extractor.replicas, own.extractor_max, own.extractor_target, **shared),
        "inference": Rule(
            settings.inference.replicas,
            own.inference_max,
            own.inference_target,
            queue_target_s=own.inference_queue_ms / 1000,
            **shared,
        ),
        "publisher": Rule(settings.publisher.replicas, own.publisher_max, own.publisher_target, **shared),
    }


class Journal:
    """The newest decisions, one JSON object a line: each change, and each time that the reason became another kind."""

    def __init__(self, path: Path, now_s: Callable[[], float], kept: int = KEPT) -> None:
        """`now_s`: Unix seconds, for people."""
        self._path, self._now_s = path, now_s
        self._lines = deque(read_decisions(path), maxlen=kept)
        self._last: dict[str, tuple[str, int]] = {}

    def note(self, service: str, decision: Decision, was: int) -> None:
        """Raises OSError."""
        kind = (decision.why.value, decision.replicas)
        if self._last.get(service) == kind:
            return
        self._lines.append(
            {
                "at_s": round(self._now_s(), 3),
                "service": service,
                "was": was,
                "replicas": decision.replicas,
                "why": decision.why.value,
                "reason": decision.reason,
            }
        )
        replace_text(self._path, "".join(json.dumps(line) + "\n" for line in self._lines))
        self._last[service] = kind


class Loop:
    """`now_s`: of a clock that never runs backwards."""

    def __init__(
        self,
        rules: Mapping[str, Rule],
        admin: Admin,
        counts: Counts,
        actor: Actor,
        pages: Pages,
        journal: Journal,
        metrics: Metrics,
        now_s: Callable[[], float],
    ) -> None:
        self._rules, self._admin, self._counts, self._actor, self._pages = rules, admin, counts, actor, pages
        self._journal, self._metrics, self._now_s = journal, metrics, now_s
        self._history: dict[str, deque[Sample]] = {service: deque() for service in rules}
        self._states = {service: State(counts.wanted(service)) for service in rules}

    async def look(self) -> None:
        """At every service once, and the steps towards what is asked for."""
        for service, rule in self._rules.items():
            history = self._history[service]
            history.append(await self._sample(service, rule))
            while history[0].at_s < history[-1].at_s - rule.horizon_s:
                history.popleft()
            state = replace(self._states[service], by_hand=self._counts.by_hand(service))
            decision = decide(history, state, rule)
            self._act(service, state.replicas, decision)
        await self._actor.act()

    def _act(self, service: str, was: int, decision: Decision) -> None:
        count = max(1, decision.replicas)  # an operator's 0 is theirs alone
        try:
            if count != self._counts.wanted(service):
                self._counts.ask(service, count)
            self._journal.note(service, decision, was)
        except OSError as exc:
            log.error("autoscaler.not_written", scaled=service, error=str(exc))
            return  # decided anew at the next look
        if was != decision.replicas:
            log.info(
                "autoscaler.decided",
                scaled=service,
                was=was,
                replicas=decision.replicas,
                why=decision.why.value,
                reason=decision.reason,
            )
        self._states[service] = decision.state
        self._metrics.autoscaler_replicas.labels(service).set(decision.replicas)

    async def _sample(self, service: str, rule: Rule) -> Sample:
        try:
            replicas = await self._actor.replicas(service)
        except Unseen as exc:
            return Sample(self._now_s(), None, running=self._states[service].replicas, ready=0, fault=str(exc))
        partitions, fault = await self._partitions(service)
        queue_wait_s = None
        if rule.queue_target_s is not None:
            queue_wait_s = await self._pages.queue_wait_s(replicas)
            fault = fault or ("" if queue_wait_s is not None else "no replica has told twice how long chunks wait")
        return Sample(
            at_s=self._now_s(),
            partitions=partitions,
            running=len(replicas),
            ready=await self._pages.ready(replicas),
            queue_wait_s=queue_wait_s,
            looping=next((one.looping for one in replicas if one.looping), ""),
            fault=fault,
        )

    async def _partitions(self, service: str) -> tuple[dict[int, Span] | None, str]:
        topic = _TOPICS[service]
        try:
            lags = await self._admin.lag(service, topic)
        except BusUnavailable as exc:
            return None, str(exc)
        found = {one.position.partition: Span(one.start, one.end) for one in lags}
        return found, "" if found else f"the log has no topic {topic}"
