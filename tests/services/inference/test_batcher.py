import asyncio
import heapq
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import pytest

from model.engine import Probabilities
from model.inputs.chunk import Chunk
from services.inference.batcher import MAX_TOKENS, Batcher, DeadlinePassed, Overloaded, Scored
from services.settings import InferenceSettings
from services.telemetry import Metrics


class FakeClock:
    """Seconds that pass only by advance(), which runs the timers on the way."""

    def __init__(self) -> None:
        self._now = 100.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._order = count()

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], object], /) -> "FakeTimer":
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self._now + delay, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end + 1e-9:
            self._now, _, timer = heapq.heappop(self._timers)
            if not timer.is_cancelled:
                timer.callback()
        self._now = end


class FakeTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeEngine:
    """A forward pass lasts until finish() says how long it took. A chunk's score is its index."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.batches: list[list[int]] = []
        self._gate: asyncio.Future[None] | None = None

    async def predict(self, chunks: Sequence[Chunk]) -> list[Probabilities]:
        self.batches.append([chunk.index for chunk in chunks])
        self._gate = asyncio.get_running_loop().create_future()
        await self._gate
        return [np.full((1, 1), chunk.index, np.float32) for chunk in chunks]

    async def finish(self, seconds: float = 0.005, error: Exception | None = None) -> None:
        assert self._gate is not None
        self._clock.advance(seconds)
        gate, self._gate = self._gate, None
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)
        await settle()


async def settle() -> None:
    """Lets every task that can go on do so."""
    for _ in range(10):
        await asyncio.sleep(0)


def chunk(index: int, tokens: int = 10) -> Chunk:
    return Chunk(index, (np.ones(tokens, np.int32),), (0,))


class World:
    def __init__(self, **settings: Any) -> None:
        self.clock = FakeClock()
        self.engine = FakeEngine(self.clock)
        self.metrics = Metrics()
        self.batcher = Batcher(self.engine.predict, InferenceSettings(**settings), self.metrics, self.clock)

    async def submit(self, *chunks: Chunk, within_s: float | None = None) -> "asyncio.Task[Scored]":
        deadline = None if within_s is None else self.clock.time() + within_s
        task = asyncio.create_task(self.batcher.submit(chunks, deadline))
        await settle()
        return task


async def test_an_idle_engine_takes_a_lone_call_at_once() -> None:
    world = World()
    task = await world.submit(chunk(1))
    assert world.engine.batches == [[1]]
    await world.engine.finish(0.004)
    scored = task.result()
    assert [float(score[0, 0]) for score in scored.scores] == [1.0]
    assert scored.forward_s == pytest.approx(0.004)
    assert scored.queue_s == pytest.approx(0.0)


async def test_calls_that_find_a_busy_engine_wait_for_company_until_the_window_ends() -> None:
    world = World(window_ms=20)
    await world.submit(chunk(1))
    second = await world.submit(chunk(2))
    await world.engine.finish(0.005)
    third = await world.submit(chunk(3))
    world.clock.advance(0.014)
    await settle()
    assert world.engine.batches == [[1]]
    world.clock.advance(0.001)
    await settle()
    assert world.engine.batches == [[1], [2, 3]]
    await world.engine.finish(0.005)
    assert second.result().queue_s == pytest.approx(0.020)
    assert third.result().queue_s == pytest.approx(0.015)


async def test_a_call_that_waited_out_its_window_goes_as_soon_as_the_engine_is_free() -> None:
    world = World(window_ms=20)
    await world.submit(chunk(1))
    await world.submit(chunk(2))
    await world.engine.finish(0.030)
    assert world.engine.batches == [[1], [2]]


async def test_a_full_batch_does_not_wait() -> None:
    world = World(max_batch=2)
    await world.submit(chunk(1))
    await world.submit(chunk(2))
    await world.engine.finish(0.001)
    assert world.engine.batches == [[1]]
    await world.submit(chunk(3))
    assert world.engine.batches == [[1], [2, 3]]


async def test_a_call_of_many_chunks_is_cut_into_batches_and_gets_its_scores_in_order() -> None:
    world = World(max_batch=32)
    task = await world.submit(*[chunk(n) for n in range(70)])
    for _ in range(3):
        await world.engine.finish(0.1)
    assert [len(batch) for batch in world.engine.batches] == [32, 32, 6]
    scored = task.result()
    assert [float(score[0, 0]) for score in scored.scores] == list(range(70))
    assert scored.forward_s == pytest.approx(0.3)


async def test_a_small_call_is_not_kept_behind_a_large_one() -> None:
    world = World(max_batch=4)
    await world.submit(*[chunk(n) for n in range(40)])
    small = await world.submit(chunk(1000))
    await world.engine.finish()
    assert 1000 in world.engine.batches[1]
    await world.engine.finish()
    assert small.done()


async def test_a_batch_is_bounded_in_tokens_but_never_empty() -> None:
    world = World()
    await world.submit(chunk(1, MAX_TOKENS * 2), chunk(2, MAX_TOKENS), chunk(3, 1))
    for _ in range(3):
        await world.engine.finish()
    assert world.engine.batches == [[1], [2], [3]]


async def test_a_call_that_would_wait_too_long_is_refused_with_a_time_to_come_back() -> None:
    world = World(max_queue_ms=1000)
    await world.submit(chunk(1, 20_000))
    await world.submit(chunk(2, 10_000))
    with pytest.raises(Overloaded) as caught:
        await world.batcher.submit([chunk(3, 10_000)])
    assert caught.value.retry_after_s == pytest.approx(0.5)
    assert (await world.submit(chunk(4, 10))).done() is True


async def test_the_queue_is_reckoned_at_the_speed_that_was_measured() -> None:
    world = World(max_queue_ms=1000)
    await world.submit(chunk(1, 50_000))
    await world.engine.finish(0.5)
    await world.submit(chunk(2, 90_000))
    fits = await world.submit(chunk(3, 90_000))
    assert not fits.done()
    with pytest.raises(Overloaded) as caught:
        await world.batcher.submit([chunk(4, 90_000)])
    assert caught.value.retry_after_s == pytest.approx(0.8)


async def test_a_call_that_cannot_be_done_by_its_deadline_is_refused_at_once() -> None:
    world = World()
    await world.submit(chunk(1, 10_000))
    with pytest.raises(Overloaded, match=r"would take 1\.0 s and has 0\.9 s"):
        await world.batcher.submit([chunk(2, 10_000)], world.clock.time() + 0.9)
    assert not (await world.submit(chunk(3, 10_000), within_s=1.1)).done()
    assert world.engine.batches == [[1]]


async def test_a_change_too_large_for_its_deadline_is_refused_by_an_idle_engine_too() -> None:
    world = World()
    with pytest.raises(Overloaded):
        await world.batcher.submit([chunk(n, 10_000) for n in range(10)], world.clock.time() + 4)
    assert world.engine.batches == []


async def test_an_idle_engine_takes_one_batch_however_slow_the_last_one_was() -> None:
    world = World()
    await world.submit(chunk(1, 1000))
    await world.engine.finish(600)
    await world.submit(chunk(2, 1000), within_s=1)
    assert world.engine.batches == [[1], [2]]


async def test_a_call_whose_deadline_passed_is_dropped_before_the_forward_pass() -> None:
    world = World()
    await world.submit(chunk(1))
    late = await world.submit(chunk(2), within_s=0.030)
    intime = await world.submit(chunk(3), within_s=10)
    await world.engine.finish(0.040)
    assert world.engine.batches == [[1], [3]]
    with pytest.raises(DeadlinePassed, match=r"0\.040 s of waiting"):
        await late
    await world.engine.finish()
    assert intime.done()


async def test_a_cancelled_call_leaves_the_queue_and_the_others_go_on() -> None:
    world = World()
    first = await world.submit(chunk(1))
    second = await world.submit(chunk(2))
    third = await world.submit(chunk(3))
    second.cancel()
    first.cancel()
    await settle()
    await world.engine.finish(0.030)
    assert world.engine.batches == [[1], [3]]
    await world.engine.finish()
    assert third.done()


async def test_an_engine_that_fails_fails_the_calls_of_that_batch_only() -> None:
    world = World()
    first = await world.submit(*[chunk(n, MAX_TOKENS) for n in range(2)])
    second = await world.submit(chunk(5))
    await world.engine.finish(0.030, RuntimeError("no memory"))
    with pytest.raises(RuntimeError, match="no memory"):
        await first
    assert world.engine.batches == [[0], [5]]
    await world.engine.finish()
    assert second.result().scores[0][0, 0] == 5


async def test_a_call_without_chunks_is_answered_without_the_engine() -> None:
    world = World()
    assert await world.batcher.submit([]) == Scored([], 0.0, 0.0)
    assert world.engine.batches == []


async def test_batch_sizes_and_waits_are_observed() -> None:
    world = World()
    await world.submit(chunk(1), chunk(2))
    await world.engine.finish()
    read = world.metrics.registry.get_sample_value
    assert (read("sentinel_batch_size_count"), read("sentinel_batch_size_sum")) == (1, 2)
    assert read("sentinel_inference_queue_seconds_count") == 2
