"""Clients that disconnect, and clients that are slow."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from orchestrator.workers.model import Chunk, Event, Started
from values.usage import UNKNOWN_USAGE, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import FakeWorkerClient
from services.orchestrator.tests.harness import (
    LIMITS,
    Harness,
    payloads_of,
    reported,
    worker_finished,
)

ANSWER = (Started(0), Chunk([b'{"a":1}']), Chunk([b'{"a":2}', b'{"a":3}']))


class TestDisconnect:
    async def test_stops_the_worker_and_records_what_was_used(self) -> None:
        stopped = worker_finished(TokenUsage(UsageSource.COUNTED, 50, 2))
        harness = Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), asyncio.Event(), stopped=stopped))
        events = harness.completions.generate(harness.request())
        await anext(events)
        await anext(events)

        await events.aclose()

        assert harness.tasks.detached == 1
        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == TokenUsage(UsageSource.COUNTED, 50, 2)
        assert harness.worker.calls[0].was_stopped
        assert harness.tasks.detached == 0

    async def test_while_waiting_for_the_first_byte_does_the_same(self) -> None:
        stopped = worker_finished(UNKNOWN_USAGE)
        harness = Harness(FakeWorkerClient(asyncio.Event(), stopped=stopped))
        reading = asyncio.ensure_future(harness.generate())
        while not harness.worker.calls:
            await asyncio.sleep(0)

        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

        assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE
        assert harness.worker.calls[0].was_stopped

    async def test_before_a_worker_is_ready_releases_the_money_and_runs_no_plan(self) -> None:
        harness = Harness(FakeWorkerClient(stopped=worker_finished(UNKNOWN_USAGE)))
        harness.worker.ready = asyncio.Event()
        reading = asyncio.ensure_future(harness.generate())
        while not len(harness.tasks) or not harness.metering.reserved:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        harness.worker.ready.set()

        assert (await harness.usage).attempts == ()
        assert not harness.worker.plans

    async def test_while_a_bug_of_ours_is_being_settled_is_no_second_one(self) -> None:
        harness = Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), RuntimeError("a bug")))
        harness.outbox.gate.clear()
        events = harness.completions.generate(harness.request())
        await anext(events)
        while not harness.outbox.tries:
            await asyncio.sleep(0)

        await events.aclose()

        harness.outbox.gate.set()
        assert (await harness.usage).attempts[0].usage == UNKNOWN_USAGE
        assert [str(crash) for crash in harness.crashes] == ["a bug"]

    async def test_frees_a_provider_that_waits_for_a_slow_client(self) -> None:
        flood = [Chunk([b"x" * LIMITS.stream_buffer_bytes]) for _ in range(3)]
        harness = Harness(FakeWorkerClient(*flood, stopped=worker_finished(reported(5, 5))))
        events = harness.completions.generate(harness.request())
        await anext(events)
        # Until the next chunk waits for room in the buffer.
        for _ in range(10):
            await asyncio.sleep(0)

        await events.aclose()

        async with asyncio.timeout(5):
            assert (await harness.usage).attempts[0].usage == reported(5, 5)

    async def test_a_worker_that_does_not_finish_in_time_leaves_a_call_of_unknown_usage(self) -> None:
        harness = Harness(FakeWorkerClient(Started(0), Chunk([b"{}"]), asyncio.Event(), stopped=None))
        harness = Harness(harness.worker, limits=replace(LIMITS, abort_timeout=timedelta(0)))
        events = harness.completions.generate(harness.request())
        await anext(events)

        await events.aclose()

        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == UNKNOWN_USAGE
        assert harness.worker.calls[0].closed

    async def test_at_the_very_end_changes_nothing(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))))
        events = harness.completions.generate(harness.request())
        async for event in events:
            if isinstance(event, Chunk):
                break

        await events.aclose()

        assert (await harness.usage).attempts[0].usage == reported(10, 2)


class TestSlowClient:
    async def test_gets_what_waits_together(self) -> None:
        harness = Harness(FakeWorkerClient(*(Chunk([b"%d" % n]) for n in range(5)), worker_finished(reported(1, 1))))

        events = await harness.generate()

        assert payloads_of(events) == [b"0", b"1", b"2", b"3", b"4"]
        assert len(events) < 2 + 5

    async def test_makes_the_provider_wait(self) -> None:
        read: list[int] = []

        def script() -> Iterator[Event]:
            for n in range(100):
                read.append(n)
                yield Chunk([b"x" * 400])
            yield worker_finished(reported(1, 1))

        harness = Harness(FakeWorkerClient())
        harness.worker.script = script()
        events = harness.completions.generate(harness.request())

        await anext(events)
        for _ in range(50):
            await asyncio.sleep(0)

        # Those received, and as many buffered: three reach the limit.
        assert len(read) == 6
        rest = [event async for event in events]
        assert len(payloads_of(rest)) == 100
