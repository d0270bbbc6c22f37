"""The event log in a real Redis, behind a proxy that can be disconnected."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from argosy.orchestration.v1 import jobs_pb2 as pb
from chassis.errors import Unavailable
from chassis.redis import MultiplexedRedis, Redis
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from orchestrator.jobs.events.model import StateChanged
from orchestrator.jobs.events.redis import CANCEL_CHANNEL, RedisJobEventLog, RedisJobSignals, events_key
from orchestrator.jobs.model import Job, JobKey, JobState, RunRef
from prometheus_client import REGISTRY

from services.orchestrator.tests.job_event_log_contract import (
    Append,
    JobEventLogContract,
    a_job_of,
    a_key,
    read_all,
)
from services.orchestrator.tests.job_fakes import a_job


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as proxy:
        yield proxy


@pytest.fixture
def section(proxy: TcpProxy) -> RedisSection:
    address = urlsplit(os.environ["ARGOSY_REDIS_URL"])
    credentials, at, _ = address.netloc.rpartition("@")
    return RedisSection(url=address._replace(netloc=f"{credentials}{at}127.0.0.1:{proxy.port}").geturl())


@pytest.fixture
async def redis(section: RedisSection) -> AsyncIterator[MultiplexedRedis]:
    async with MultiplexedRedis(section) as redis:
        yield redis


@pytest.fixture
async def log(redis: MultiplexedRedis, section: RedisSection) -> AsyncIterator[RedisJobEventLog]:
    log = RedisJobEventLog(redis, section.url)
    await log.arrivals.start()
    yield log
    await log.arrivals.stop()


@pytest.fixture
def signals(redis: MultiplexedRedis) -> RedisJobSignals:
    return RedisJobSignals(redis, timedelta(minutes=5))


async def logged(log: RedisJobEventLog, key: JobKey) -> list[Any]:
    """The events of a job, once there are some."""
    async with asyncio.timeout(30):
        while not (events := await read_all(log, key)):
            await asyncio.sleep(0.01)
    return events


async def read_until_refused(log: RedisJobEventLog, key: JobKey) -> None:
    async with asyncio.timeout(30):
        while True:
            await log.read(key, "")


def lost() -> float:
    return REGISTRY.get_sample_value("orchestrator_job_events_lost_total") or 0.0


class TestRedisJobEventLog(JobEventLogContract):
    @pytest.fixture
    def append(self, redis: MultiplexedRedis, signals: RedisJobSignals, log: RedisJobEventLog) -> Append:
        async def append(key: JobKey, event: Job | tuple[int, Sequence[bytes]]) -> str:
            if isinstance(event, Job):
                signals.changed(event)
                return str((await read_all(log, key))[-1].event_id)
            # As a worker does it.
            delta = pb.JobDelta(run=event[0], payloads=event[1]).SerializeToString()
            event_id: bytes = await redis.send("XADD", events_key(key), "*", "delta", delta)
            return event_id.decode()

        return append

    async def test_a_state_is_logged_without_the_result_and_expires(
        self, redis: MultiplexedRedis, signals: RedisJobSignals, log: RedisJobEventLog
    ) -> None:
        key = a_key()
        signals.changed(a_job(JobState.SUCCEEDED, tenant_id=key.tenant_id, job_id=key.job_id, result=b"secret"))

        (event,) = await logged(log, key)

        assert isinstance(event, StateChanged)
        assert (event.job.state, event.job.result) == (JobState.SUCCEEDED, b"")
        assert 0 < await redis.send("TTL", events_key(key)) <= 300

    async def test_jobs_of_batches_are_not_logged(
        self, redis: MultiplexedRedis, signals: RedisJobSignals, log: RedisJobEventLog
    ) -> None:
        key = a_key()
        signals.changed(a_job(tenant_id=key.tenant_id, job_id=key.job_id, batch_id="batch_1"))
        signals.changed(a_job_of(other := a_key()))
        await logged(log, other)

        assert await redis.send("EXISTS", events_key(key)) == 0

    async def test_an_entry_of_a_newer_version_is_passed_over(
        self, redis: MultiplexedRedis, log: RedisJobEventLog, append: Append
    ) -> None:
        key = a_key()
        await redis.send("XADD", events_key(key), "*", "thought", b"x")
        event_id = await append(key, a_job_of(key))

        assert [event.event_id for event in await read_all(log, key)] == [event_id]

    async def test_without_redis_reads_are_unavailable_and_followers_wait_in_vain_and_both_recover(
        self, proxy: TcpProxy, redis: MultiplexedRedis, log: RedisJobEventLog, append: Append
    ) -> None:
        key = a_key()
        last = await append(key, a_job_of(key))
        with log.follow(key, last) as follower:
            await proxy.cut()
            with pytest.raises(Unavailable):
                await read_until_refused(log, key)
            await follower.wait(0.01)
            await proxy.mend()
            async with asyncio.timeout(30):
                while True:
                    try:
                        await append(key, (3, [b"{}"]))
                        break
                    except Unavailable:
                        await asyncio.sleep(0.05)
                await follower.wait(60)

    async def test_what_redis_does_not_take_is_counted_and_raises_nothing(
        self, proxy: TcpProxy, signals: RedisJobSignals
    ) -> None:
        await proxy.cut()
        before = lost()

        async with asyncio.timeout(30):
            while lost() < before + 3:
                signals.changed(a_job_of(a_key()))
                signals.cancel(RunRef("ten_1", "job_1", 2))
                await asyncio.sleep(0.01)


async def test_a_cancellation_reaches_workers(section: RedisSection, signals: RedisJobSignals) -> None:
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(Redis(section))
        subscribed: asyncio.Event = asyncio.Event()
        messages: asyncio.Queue[bytes] = asyncio.Queue()

        async def on_connect() -> None:
            subscribed.set()

        subscription = redis.subscribe(CANCEL_CHANNEL, messages.put, on_connect)
        await subscription.start()
        stack.push_async_callback(subscription.stop)
        async with asyncio.timeout(30):
            await subscribed.wait()
            run = RunRef("ten_1", a_key().job_id, 7)
            signals.cancel(run)
            while orjson.loads(message := await messages.get())["job_id"] != run.job_id:
                pass

    assert orjson.loads(message) == {"tenant_id": "ten_1", "job_id": run.job_id, "epoch": 7}
