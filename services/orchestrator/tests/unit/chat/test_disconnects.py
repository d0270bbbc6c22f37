"""Clients that go away, and clients that are slow."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from orchestrator.domain.ports import Answering, Payloads
from orchestrator.domain.usage import UNKNOWN, TokenUsage, UsageSource

from services.orchestrator.tests.fakes import FakeWorker
from services.orchestrator.tests.world import (
    POLICY,
    World,
    an_account,
    payloads_of,
    reported,
)

ANSWER = (Answering(0), Payloads([b'{"a":1}']), Payloads([b'{"a":2}', b'{"a":3}']))


class TestClientGone:
    async def test_stops_the_worker_and_bills_what_was_used(self):
        stopped = an_account(TokenUsage(UsageSource.COUNTED, 50, 2))
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), asyncio.Event(), stopped=stopped))
        steps = world.generations.generate(world.request())
        await anext(steps)
        await anext(steps)

        await steps.aclose()

        assert world.tasks.left == 1
        (attempt,) = (await world.usage).attempts
        assert attempt.usage == TokenUsage(UsageSource.COUNTED, 50, 2)
        assert world.worker.runs[0].was_stopped
        assert world.tasks.left == 0

    async def test_while_waiting_for_the_first_byte_does_the_same(self):
        stopped = an_account(UNKNOWN)
        world = World(FakeWorker(asyncio.Event(), stopped=stopped))
        listening = asyncio.ensure_future(world.generate())
        while not world.worker.runs:
            await asyncio.sleep(0)

        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening

        assert (await world.usage).attempts[0].usage == UNKNOWN
        assert world.worker.runs[0].was_stopped

    async def test_before_a_worker_is_reached_releases_the_money_and_calls_nobody(self):
        world = World(FakeWorker(stopped=an_account(UNKNOWN)))
        world.worker.reached = asyncio.Event()
        listening = asyncio.ensure_future(world.generate())
        while not len(world.tasks) or not world.metering.reserved:
            await asyncio.sleep(0)
        await asyncio.sleep(0)

        listening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await listening
        world.worker.reached.set()

        assert (await world.usage).attempts == ()
        assert not world.worker.plans

    async def test_while_a_bug_of_ours_is_being_settled_is_no_second_one(self):
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), RuntimeError("a bug")))
        world.log.gate.clear()
        steps = world.generations.generate(world.request())
        await anext(steps)
        while not world.log.tries:
            await asyncio.sleep(0)

        await steps.aclose()

        world.log.gate.set()
        assert (await world.usage).attempts[0].usage == UNKNOWN
        assert [str(crash) for crash in world.crashes] == ["a bug"]

    async def test_frees_a_provider_that_waits_for_a_slow_client(self):
        flood = [Payloads([b"x" * POLICY.waiting_bytes]) for _ in range(3)]
        world = World(FakeWorker(*flood, stopped=an_account(reported(5, 5))))
        steps = world.generations.generate(world.request())
        await anext(steps)
        # Until the next payload waits for room.
        for _ in range(10):
            await asyncio.sleep(0)

        await steps.aclose()

        async with asyncio.timeout(5):
            assert (await world.usage).attempts[0].usage == reported(5, 5)

    async def test_a_worker_that_gives_no_account_in_time_leaves_a_call_of_unknown_usage(self):
        world = World(FakeWorker(Answering(0), Payloads([b"{}"]), asyncio.Event(), stopped=None))
        world = World(world.worker, policy=replace(POLICY, hang_up=timedelta(0)))
        steps = world.generations.generate(world.request())
        await anext(steps)

        await steps.aclose()

        (attempt,) = (await world.usage).attempts
        assert attempt.usage == UNKNOWN
        assert world.worker.runs[0].left

    async def test_at_the_very_end_changes_nothing(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        steps = world.generations.generate(world.request())
        async for step in steps:
            if isinstance(step, Payloads):
                break

        await steps.aclose()

        assert (await world.usage).attempts[0].usage == reported(10, 2)


class TestSlowClient:
    async def test_gets_what_waits_together(self):
        world = World(FakeWorker(*(Payloads([b"%d" % n]) for n in range(5)), an_account(reported(1, 1))))

        steps = await world.generate()

        assert payloads_of(steps) == [b"0", b"1", b"2", b"3", b"4"]
        assert len(steps) < 2 + 5

    async def test_makes_the_provider_wait(self):
        read: list[int] = []

        def script():
            for n in range(100):
                read.append(n)
                yield Payloads([b"x" * 400])
            yield an_account(reported(1, 1))

        world = World(FakeWorker())
        world.worker.script = script()  # type: ignore[assignment]
        steps = world.generations.generate(world.request())

        await anext(steps)
        for _ in range(50):
            await asyncio.sleep(0)

        # Those that were taken, and as many waiting: three reach the limit.
        assert len(read) == 6
        rest = [step async for step in steps]
        assert len(payloads_of(rest)) == 100
