"""What replicas tell each other and workers, by a real Redis."""

import asyncio
import os
from collections.abc import AsyncIterator

import orjson
import pytest
from chassis.ids import new_id
from chassis.redis import MultiplexedRedis, Redis
from chassis.settings import RedisSection
from chassis.testing import free_port
from orchestrator.jobs.model import Lane, RunRef
from orchestrator.jobs.offers.redis import ENDED_CHANNEL, OFFERS_CHANNEL, RedisPushSignals
from orchestrator.jobs.rounds import Offer
from prometheus_client import REGISTRY


def section() -> RedisSection:
    return RedisSection(url=os.environ["ARGOSY_REDIS_URL"])


@pytest.fixture
async def redis() -> AsyncIterator[MultiplexedRedis]:
    async with MultiplexedRedis(section()) as redis:
        yield redis


async def test_offers_are_published_to_the_pool_with_their_worker(redis: MultiplexedRedis) -> None:
    pool, connected, messages = new_id("pool-"), asyncio.Event(), asyncio.Queue[bytes]()

    async def on_connect() -> None:
        connected.set()

    async with Redis(section()) as listening, asyncio.timeout(30):
        subscription = listening.subscribe(OFFERS_CHANNEL + pool, messages.put, on_connect)
        await subscription.start()
        await connected.wait()
        signals = RedisPushSignals(redis, "orc_1")
        signals.offer("wrk_1", pool, [Offer(RunRef("ten_1", "job_1", 3), Lane.BATCH)])
        signals.offer("wrk_2", pool, ())
        published = [orjson.loads(await messages.get()) for _ in range(2)]
        await subscription.stop()

    # The worker's tests read the same.
    assert published == [
        {"worker": "wrk_1", "offers": [["ten_1", "job_1", 3, "batch"]]},
        {"worker": "wrk_2", "offers": []},
    ]


async def test_a_replica_learns_of_workers_that_others_have_lost(redis: MultiplexedRedis) -> None:
    connected, received = asyncio.Event(), asyncio.Queue[tuple[str, str]]()
    one, other = RedisPushSignals(redis, new_id("orc_")), RedisPushSignals(redis, new_id("orc_"))
    worker = new_id("worker_")

    async def on_connect() -> None:
        connected.set()

    async with Redis(section()) as listening, asyncio.timeout(30):
        handler = one.ended_handler(lambda lost, pool: received.put_nowait((lost, pool)))
        subscription = listening.subscribe(ENDED_CHANNEL, handler, on_connect)
        await subscription.start()
        await connected.wait()
        one.ended(worker, "mine")
        other.ended(worker, "theirs")
        while (found := await received.get())[0] != worker:
            pass  # of other tests
        await subscription.stop()

    assert found == (worker, "theirs")


async def test_without_redis_nothing_waits_and_what_is_lost_is_counted() -> None:
    lost = REGISTRY.get_sample_value("orchestrator_job_events_lost_total") or 0
    async with MultiplexedRedis(RedisSection(url=f"redis://127.0.0.1:{free_port()}/0")) as redis:
        RedisPushSignals(redis, "orc_1").ended("wrk_1", "default")
        async with asyncio.timeout(30):
            while REGISTRY.get_sample_value("orchestrator_job_events_lost_total") == lost:
                await asyncio.sleep(0.01)
