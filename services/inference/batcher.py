"""Chunks of many calls into few forward passes: fair between calls, bounded in time, refused early when it cannot be.

An idle engine takes a lone call at once. What arrives while it is busy waits until `max_batch` chunks are there or the
first has waited `window_ms`. Batches take one chunk of each waiting call in turn, so a call of one hunk does not stand
behind a call of a thousand.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from model.engine import Probabilities
from model.inputs.chunk import Chunk
from services.settings import InferenceSettings
from services.telemetry import Metrics

Predict = Callable[[Sequence[Chunk]], Awaitable[list[Probabilities]]]

MAX_TOKENS: Final = 16_384  # of one batch: what a later call has to wait for at the least
_FIRST_RATE: Final = 20_000.0  # tokens a second, until passes are measured
_MEMORY_TOKENS: Final = 50_000.0  # the measured rate is that of about the last so many


class Clock(Protocol):
    """Seconds and timers; an event loop is one."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], object], /) -> Any:
        """A handle with cancel()."""


class Overloaded(Exception):
    """The call would wait longer than `max_queue_ms`, or not be done by its deadline."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlinePassed(Exception):
    """The caller's deadline passed before its last forward pass began."""


@dataclass(frozen=True, slots=True)
class Scored:
    """scores: one array per chunk, in the order given. forward_s: passes this call took part in; queue_s: the rest."""

    scores: list[Probabilities]
    queue_s: float
    forward_s: float


@dataclass(slots=True, eq=False)
class _Call:
    chunks: Sequence[Chunk]
    costs: list[int]  # tokens of each chunk
    arrived: float
    deadline: float | None
    found_idle: bool
    done: "asyncio.Future[None]"
    tokens_left: int
    scores: list[Probabilities] = field(default_factory=list)
    taken: int = 0
    forward_s: float = 0.0


class Batcher:
    def __init__(self, predict: Predict, settings: InferenceSettings, metrics: Metrics, clock: Clock) -> None:
        self._predict = predict
        self._settings = settings
        self._metrics = metrics
        self._clock = clock
        self._waiting: deque[_Call] = deque()
        self._running: asyncio.Task[None] | None = None
        self._running_tokens = 0
        self._timer: Any = None
        self._tokens, self._seconds = _FIRST_RATE, 1.0  # of recent passes

    async def submit(self, chunks: Sequence[Chunk], deadline: float | None = None) -> Scored:
        """The scores of one call's chunks. `deadline` is a time of the clock.

        Raises Overloaded at once, DeadlinePassed later; what the engine raises goes to every call of the batch.
        Cancelling it takes the chunks out of the queue.
        """
        if not chunks:
            return Scored([], 0.0, 0.0)
        arrived = self._clock.time()
        costs = [sum(len(row) for row in chunk.rows) for chunk in chunks]
        self._admit(sum(costs), None if deadline is None else deadline - arrived)
        call = _Call(
            chunks,
            costs,
            arrived,
            deadline,
            found_idle=self._running is None and not self._waiting,
            done=asyncio.get_running_loop().create_future(),
            tokens_left=sum(costs),
        )
        self._waiting.append(call)
        self._go_on()
        try:
            await call.done
        finally:
            if call in self._waiting:
                self._waiting.remove(call)
        return Scored(call.scores, max(0.0, self._clock.time() - arrived - call.forward_s), call.forward_s)

    def _admit(self, cost: int, within_s: float | None) -> None:
        """Raises Overloaded. An idle engine always takes one batch: its speed is known by what it does alone."""
        wait_s = self._wait_s(cost)
        limit_s = self._settings.max_queue_ms / 1000
        if wait_s > limit_s:
            after_s = wait_s - limit_s
            said = f"the queue is {wait_s:.1f} s long; try again in {after_s:.1f} s, or add replicas"
            raise Overloaded(said, after_s)
        done_s = wait_s + cost * self._seconds / self._tokens
        if within_s is not None and done_s > within_s and (wait_s or cost > MAX_TOKENS):
            raise Overloaded(f"the call would take {done_s:.1f} s and has {within_s:.1f} s; give it more", wait_s)

    def _wait_s(self, cost: int) -> float:
        """Seconds a call of `cost` tokens would wait: taken in turn, a call has at most its own cost before it."""
        ahead = sum(min(call.tokens_left, cost) for call in self._waiting)
        return (self._running_tokens + ahead) * self._seconds / self._tokens

    def _go_on(self) -> None:
        """Starts the next batch when the engine is free and the batch is due, else sets the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._running is None and self._waiting:
            wait_s = self._due_in_s()
            if wait_s > 0:
                self._timer = self._clock.call_later(wait_s, self._go_on)
                return
            if batch := self._take():
                self._running = asyncio.get_running_loop().create_task(self._run(batch))

    def _due_in_s(self) -> float:
        queued = sum(len(call.chunks) - call.taken for call in self._waiting)
        if queued >= self._settings.max_batch or any(call.found_idle or call.taken for call in self._waiting):
            return 0.0
        return self._waiting[0].arrived + self._settings.window_ms / 1000 - self._clock.time()

    def _take(self) -> list[_Call]:
        """One chunk of each waiting call in turn, up to the bounds; names the call of each chunk taken."""
        now = self._clock.time()
        batch: list[_Call] = []
        tokens = 0
        while self._waiting and len(batch) < self._settings.max_batch:
            call = self._waiting[0]
            if call.done.done():
                self._waiting.popleft()
            elif call.deadline is not None and call.deadline <= now:
                self._waiting.popleft()
                call.done.set_exception(
                    DeadlinePassed(f"the deadline passed after {now - call.arrived:.3f} s of waiting")
                )
            elif batch and tokens + call.costs[call.taken] > MAX_TOKENS:
                break
            else:
                self._waiting.popleft()
                self._metrics.inference_queue.observe(now - call.arrived)
                tokens += call.costs[call.taken]
                call.tokens_left -= call.costs[call.taken]
                call.taken += 1
                batch.append(call)
                if call.taken < len(call.chunks):
                    self._waiting.append(call)
        self._running_tokens = tokens
        return batch

    async def _run(self, batch: list[_Call]) -> None:
        """One forward pass. A call has its chunks taken in order, so its scores come in order too."""
        at = {call: len(call.scores) for call in batch}
        chunks = []
        for call in batch:
            chunks.append(call.chunks[at[call]])
            at[call] += 1
        self._metrics.batch_size.observe(len(chunks))
        started = self._clock.time()
        try:
            scores = await self._predict(chunks)
        except Exception as exc:  # noqa: BLE001 - whatever the engine raises belongs to the callers
            for call in at:
                if not call.done.done():
                    call.done.set_exception(exc)
        else:
            forward_s = self._clock.time() - started
            self._measure(forward_s)
            for call in at:
                call.forward_s += forward_s
            for call, score in zip(batch, scores, strict=True):
                call.scores.append(score)
                if len(call.scores) == len(call.chunks) and not call.done.done():
                    call.done.set_result(None)
        finally:
            self._running, self._running_tokens = None, 0
            self._go_on()

    def _measure(self, forward_s: float) -> None:
        keep = max(0.0, 1 - self._running_tokens / _MEMORY_TOKENS)
        self._tokens = self._tokens * keep + self._running_tokens
        self._seconds = self._seconds * keep + forward_s
