"""Usage is written, however long Postgres is unavailable."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from orchestrator.usage.model import RequestUsage
from orchestrator.workers.model import Chunk, Started

from services.orchestrator.tests.fakes import FakeWorkerClient
from services.orchestrator.tests.harness import (
    Harness,
    finished_of,
    reported,
    worker_finished,
)

ANSWER = (Started(0), Chunk([b'{"a":1}']), Chunk([b'{"a":2}', b'{"a":3}']))


class TestPostgresUnavailable:
    async def test_the_answer_finishes_and_the_event_is_written_later(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))))
        harness.outbox.failure = Unavailable("postgres does not answer")

        events = await harness.generate()

        assert finished_of(events).cost == 10 * 50 + 2 * 200
        assert not harness.outbox.written
        harness.outbox.failure = None
        assert (await harness.usage).attempts[0].usage == reported(10, 2)
        assert harness.pauses

    async def test_a_slow_write_delays_the_end_until_the_timeout_only(self) -> None:
        harness = Harness(
            FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))), usage_timeout=timedelta(milliseconds=1)
        )
        harness.outbox.gate.clear()

        events = await harness.generate()

        assert finished_of(events).error is None
        assert not harness.outbox.written
        harness.outbox.gate.set()
        assert (await harness.usage).attempts[0].usage == reported(10, 2)

    async def test_a_write_whose_reply_was_lost_is_not_a_second_event(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))))
        lost = Unavailable("the reply to the commit was lost")
        write = harness.outbox.write

        async def write_and_lose_the_reply(usage: RequestUsage) -> None:
            await write(usage)
            if harness.outbox.tries == 1:
                raise lost

        harness.outbox.write = write_and_lose_the_reply  # type: ignore[method-assign]
        await harness.generate()

        assert (await harness.usage).attempts
        assert harness.outbox.tries == 2

    async def test_writing_is_retried_without_limit_with_growing_pauses(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))))
        harness.outbox.failure = Unavailable("postgres does not answer")

        async def until_the_twentieth() -> None:
            if len(harness.pauses) == 20:
                harness.outbox.failure = None

        harness.on_pause = until_the_twentieth
        await harness.generate()

        assert (await harness.usage).attempts
        assert len(harness.pauses) == 20
        assert max(harness.pauses) <= 10

    async def test_too_many_waiting_events_refuse_new_requests(self) -> None:
        harness = Harness(FakeWorkerClient(*ANSWER, worker_finished(reported(10, 2))), max_tasks=1)
        harness.outbox.failure = Unavailable("postgres does not answer")
        gate = asyncio.Event()
        harness.on_pause = gate.wait
        await harness.generate()

        with pytest.raises(Unavailable):
            await harness.generate(request_id="req_2")

        assert "req_2" not in harness.metering.reserved
        harness.outbox.failure = None
        gate.set()
        await harness.tasks.wait_idle()
