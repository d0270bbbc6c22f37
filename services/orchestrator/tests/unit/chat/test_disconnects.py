"""Clients that disconnect, and clients that are slow."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from orchestrator.limits import DisconnectPolicy
from orchestrator.usage.model import Attempt
from orchestrator.workers.model import Chunk, Event, Started
from orchestrator.workers.model import Finished as WorkerFinished
from values.usage import UNKNOWN_USAGE, ExposureCause, TokenUsage, UsageSource

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

        async with asyncio.timeout(30):
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


class TestPolicy:
    async def leave(self, harness: Harness, *, stream: bool) -> None:
        """Start a request, and disconnect while its provider works."""
        reading = asyncio.ensure_future(harness.generate(stream=stream))
        while not harness.worker.calls:
            await asyncio.sleep(0)
        for _ in range(5):
            await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    async def test_an_answer_that_is_not_streamed_is_read_to_its_end_and_billed(self) -> None:
        gate = asyncio.Event()
        harness = Harness(FakeWorkerClient(gate, *ANSWER, worker_finished(reported(10, 2))))

        await self.leave(harness, stream=False)

        assert not harness.worker.calls[0].was_stopped
        # It keeps its slot, so that leaving starts no more calls than staying.
        assert (harness.tasks.detached, len(harness.tasks)) == (1, 1)
        gate.set()
        (attempt,) = (await harness.usage).attempts
        assert attempt.usage == reported(10, 2)

    @pytest.mark.parametrize(
        ("stream", "policy", "stopped"),
        [
            (True, DisconnectPolicy.ABORT, True),
            (True, DisconnectPolicy.DRAIN, False),
            (False, DisconnectPolicy.ABORT, True),
            (False, DisconnectPolicy.DRAIN, False),
        ],
    )
    async def test_is_a_setting(self, stream: bool, policy: DisconnectPolicy, stopped: bool) -> None:
        gate = asyncio.Event()
        if stream:
            limits = replace(LIMITS, streamed_disconnect=policy)
        else:
            limits = replace(LIMITS, non_streamed_disconnect=policy)
        worker = FakeWorkerClient(gate, worker_finished(reported(10, 2)), stopped=worker_finished(reported(1, 0)))
        harness = Harness(worker, limits=limits)

        await self.leave(harness, stream=stream)

        assert harness.worker.calls[0].was_stopped is stopped
        gate.set()
        assert (await harness.usage).attempts[0].usage == (reported(1, 0) if stopped else reported(10, 2))

    async def test_what_drains_is_aborted_when_the_service_stops(self) -> None:
        stopped = Attempt(1, 0, UNKNOWN_USAGE, ExposureCause.CLIENT)
        harness = Harness(FakeWorkerClient(asyncio.Event(), stopped=WorkerFinished((stopped,))))
        await self.leave(harness, stream=False)

        harness.disconnects.begin_stop()
        before = harness.worker.calls[0].was_stopped
        harness.disconnects.abort_all()

        (attempt,) = (await harness.usage).attempts
        assert (before, harness.worker.calls[0].was_stopped) == (False, True)
        # The client was promised that its answer is read to the end.
        assert attempt.exposure_cause is ExposureCause.FLEET

    async def test_what_begins_to_drain_after_that_is_aborted_at_once(self) -> None:
        harness = Harness(FakeWorkerClient(asyncio.Event(), stopped=worker_finished(reported(1, 0))))
        harness.disconnects.abort_all()

        await self.leave(harness, stream=False)

        assert harness.worker.calls[0].was_stopped
        await harness.tasks.wait_idle()

    async def test_what_an_abort_leaves_unknown_is_the_clients_doing(self) -> None:
        stopped = Attempt(1, 0, UNKNOWN_USAGE, ExposureCause.CLIENT)
        harness = Harness(FakeWorkerClient(asyncio.Event(), stopped=WorkerFinished((stopped,))))

        await self.leave(harness, stream=True)

        (attempt,) = (await harness.usage).attempts
        assert (attempt.usage, attempt.exposure_cause) == (UNKNOWN_USAGE, ExposureCause.CLIENT)


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
