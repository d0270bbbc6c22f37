"""Usage is written down, however long Postgres is away."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from orchestrator.domain.ports import Answering, Payloads

from services.orchestrator.tests.fakes import FakeWorker
from services.orchestrator.tests.world import (
    World,
    an_account,
    done_of,
    reported,
)

ANSWER = (Answering(0), Payloads([b'{"a":1}']), Payloads([b'{"a":2}', b'{"a":3}']))


class TestRecordingWhilePostgresIsAway:
    async def test_the_answer_is_not_kept_back_and_the_event_is_written_later(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        world.log.failure = Unavailable("postgres does not answer")

        steps = await world.generate()

        assert done_of(steps).bill.cost == 10 * 50 + 2 * 200
        assert not world.log.recorded
        world.log.failure = None
        assert (await world.usage).attempts[0].usage == reported(10, 2)
        assert world.pauses

    async def test_a_slow_write_keeps_the_end_for_so_long_only(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))), patience=timedelta(milliseconds=1))
        world.log.gate.clear()

        steps = await world.generate()

        assert done_of(steps).failure is None
        assert not world.log.recorded
        world.log.gate.set()
        assert (await world.usage).attempts[0].usage == reported(10, 2)

    async def test_a_write_that_happened_without_being_heard_of_is_not_a_second_event(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        lost = Unavailable("the answer to the commit was lost")
        record = world.log.record

        async def record_and_lose_the_answer(usage):
            await record(usage)
            if world.log.tries == 1:
                raise lost

        world.log.record = record_and_lose_the_answer  # type: ignore[method-assign]
        await world.generate()

        assert (await world.usage).attempts
        assert world.log.tries == 2

    async def test_it_tries_again_for_as_long_as_it_takes_with_growing_pauses(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))))
        world.log.failure = Unavailable("postgres does not answer")

        async def until_the_twentieth() -> None:
            if len(world.pauses) == 20:
                world.log.failure = None

        world.on_pause = until_the_twentieth
        await world.generate()

        assert (await world.usage).attempts
        assert len(world.pauses) == 20
        assert max(world.pauses) <= 10

    async def test_too_much_that_waits_admits_no_more_requests(self):
        world = World(FakeWorker(*ANSWER, an_account(reported(10, 2))), most_tasks=1)
        world.log.failure = Unavailable("postgres does not answer")
        gate = asyncio.Event()
        world.on_pause = gate.wait  # type: ignore[assignment]
        await world.generate()

        with pytest.raises(Unavailable):
            await world.generate(request_id="req_2")

        assert "req_2" not in world.metering.reserved
        world.log.failure = None
        gate.set()
        await world.tasks.idle()
