"""Deltas and cancellations on a real Redis."""

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from urllib.parse import urlsplit

import orjson
import pytest
from argosy.orchestration.v1 import jobs_pb2
from chassis.ids import new_id
from chassis.redis import MultiplexedRedis, Redis
from chassis.settings import RedisSection
from chassis.testing import free_port
from chassis.testing.network import TcpProxy
from inference_worker.jobs.model import Lane, Offer, RunRef
from inference_worker.jobs.redis import (
    CANCEL_CHANNEL,
    COMMAND_SECONDS,
    RedisDeltas,
    cancel_handler,
    events_key,
    offers_handler,
)
from inference_worker.metrics import JOB_DELTAS_DROPPED

TTL = timedelta(minutes=5)


def section() -> RedisSection:
    return RedisSection(url=os.environ["ARGOSY_REDIS_URL"])


@pytest.fixture
async def redis() -> AsyncIterator[MultiplexedRedis]:
    async with MultiplexedRedis(section()) as redis:
        yield redis


async def entries(redis: MultiplexedRedis, run: RunRef) -> list[jobs_pb2.JobDelta]:
    found = await redis.send("XRANGE", events_key(run), "-", "+")
    return [jobs_pb2.JobDelta.FromString(dict(zip(f[::2], f[1::2], strict=True))[b"delta"]) for _, f in found]


async def until_entries(redis: MultiplexedRedis, run: RunRef, count: int) -> list[jobs_pb2.JobDelta]:
    async with asyncio.timeout(30):
        while len(found := await entries(redis, run)) < count:
            await asyncio.sleep(0.02)
    return found


def a_run() -> RunRef:
    return RunRef("ten_a", new_id("job_"), 4)


async def test_chunks_that_come_together_are_one_event_and_all_come_in_order(redis: MultiplexedRedis):
    deltas, run = RedisDeltas(redis, TTL), a_run()

    for number in range(50):
        deltas.append(run, [b"%d" % number])
    await until_entries(redis, run, 1)
    deltas.append(run, [b"last"])
    deltas.end(run)
    found = await until_entries(redis, run, 2)

    assert [delta.run for delta in found] == [4, 4]
    assert list(found[0].payloads) == [b"%d" % number for number in range(50)]
    assert list(found[1].payloads) == [b"last"]
    assert 0 < await redis.send("TTL", events_key(run)) <= TTL.total_seconds()
    assert (deltas._live, deltas._buffered, deltas._expire_at) == (set(), {}, {})


@pytest.mark.degraded(down="Redis slow", area="jobs", holds="deltas are dropped and counted, and no job waits for them")
async def test_without_redis_deltas_are_dropped_and_counted_and_nothing_waits():
    dropped = JOB_DELTAS_DROPPED._value.get()
    async with MultiplexedRedis(RedisSection(url=f"redis://127.0.0.1:{free_port()}/0")) as redis:
        deltas, run = RedisDeltas(redis, TTL), a_run()
        deltas.append(run, [b"a", b"b"])
        async with asyncio.timeout(30):
            while JOB_DELTAS_DROPPED._value.get() < dropped + 2:
                await asyncio.sleep(0.01)
        deltas.append(run, [b"c"])
        deltas.end(run)

    assert JOB_DELTAS_DROPPED._value.get() == dropped + 3


async def test_a_redis_that_is_slow_for_a_moment_gets_every_chunk(redis: MultiplexedRedis):
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as proxy:
        through_proxy = RedisSection(url=f"redis://127.0.0.1:{proxy.port}/0")
        async with MultiplexedRedis(through_proxy, timeout_seconds=COMMAND_SECONDS) as slow:
            deltas, run = RedisDeltas(slow, TTL), a_run()
            proxy.freeze()
            for number in range(5):
                deltas.append(run, [b"%d" % number])
                await asyncio.sleep(0.05)
            await proxy.mend()
            deltas.append(run, [b"last"])
            deltas.end(run)
            async with asyncio.timeout(30):
                while not (found := await entries(redis, run)) or found[-1].payloads[-1] != b"last":
                    await asyncio.sleep(0.02)

    assert [chunk for delta in found for chunk in delta.payloads] == [b"0", b"1", b"2", b"3", b"4", b"last"]


async def test_after_a_lost_chunk_no_later_one_of_that_run_is_written(redis: MultiplexedRedis):
    deltas, run, other = RedisDeltas(redis, TTL), a_run(), a_run()
    await redis.send("SET", events_key(run), "not a stream")
    deltas.append(run, [b"lost"])
    deltas.append(other, [b"kept"])
    await until_entries(redis, other, 1)
    async with asyncio.timeout(30):
        while run not in deltas._broken:
            await asyncio.sleep(0.01)
    await redis.send("DEL", events_key(run))

    deltas.append(run, [b"after the hole"])
    deltas.end(run)

    assert await redis.send("EXISTS", events_key(run)) == 0


async def test_a_published_cancellation_reaches_the_worker_and_a_malformed_one_ends_nothing():
    cancelled: list[RunRef] = []
    connected, arrived = asyncio.Event(), asyncio.Event()

    def cancel(run: RunRef) -> None:
        cancelled.append(run)
        arrived.set()

    async def note() -> None:
        connected.set()

    async with Redis(section()) as redis:
        subscription = redis.subscribe(CANCEL_CHANNEL, cancel_handler(cancel), note)
        await subscription.start()
        async with asyncio.timeout(30):
            await connected.wait()
            await redis.publish(CANCEL_CHANNEL, b"nonsense")
            message = orjson.dumps({"tenant_id": "ten_a", "job_id": "job_1", "epoch": 2})
            await redis.publish(CANCEL_CHANNEL, message)
            await arrived.wait()
        await subscription.stop()

    assert cancelled == [RunRef("ten_a", "job_1", 2)]


async def test_a_worker_takes_the_offers_that_name_it():
    taken: list[list[Offer]] = []
    handle = offers_handler("wrk_1", lambda offers: taken.append(list(offers)))

    for worker in ("wrk_1", "wrk_2"):
        # As the orchestrator's tests have it.
        await handle(orjson.dumps({"worker": worker, "offers": [["ten_1", "job_1", 3, "batch"]]}))
    await handle(orjson.dumps({"worker": "wrk_1", "offers": []}))

    assert taken == [[Offer(RunRef("ten_1", "job_1", 3), Lane.BATCH)], []]
