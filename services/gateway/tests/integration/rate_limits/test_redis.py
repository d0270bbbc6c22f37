"""Rate limits on a real Redis, behind a TCP proxy that can be cut and frozen."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.redis import MultiplexedRedis, Script
from chassis.settings import RedisSection
from chassis.tenancy import Principal
from chassis.testing import FakeClock
from chassis.testing.network import TcpProxy
from gateway.rate_limits.limiter import MINUTE_US, ClassRateLimits, RateLimiter, RateLimitExceeded, RateLimitStore
from gateway.rate_limits.memory import InMemoryRateLimitStore
from gateway.rate_limits.redis import RedisRateLimitStore

from services.gateway.tests.fakes.gateway import metric, of_all_classes
from services.gateway.tests.rate_limits_contract import RateLimitStoreContract


@pytest.fixture
async def proxy() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as proxy:
        yield proxy


@pytest.fixture
async def redis(proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedRedis]:
    # 50 ms can pass on a busy test machine without any fault of Redis.
    monkeypatch.setattr("chassis.redis.multiplexed.TIMEOUT_SECONDS", 30)
    async with MultiplexedRedis(RedisSection(url=f"redis://127.0.0.1:{proxy.port}/0")) as redis:
        yield redis


@pytest.fixture
def limits(redis: MultiplexedRedis) -> RateLimitStore:
    return RedisRateLimitStore(redis)


class TestRedisRateLimits(RateLimitStoreContract):
    """The contract, on Redis."""


async def test_a_bucket_refills_by_redis_own_clock(limits: RateLimitStore) -> None:
    tenant, rates = new_id("ten_"), ClassRateLimits(tenant=1200)  # one each 50 ms
    for _ in range(1200):
        await limits.take(tenant, "key", "inference", rates)
    while (await limits.take(tenant, "key", "inference", rates)).allowed:
        pass  # what has come back since the first one
    await asyncio.sleep(0.06)

    assert (await limits.take(tenant, "key", "inference", rates)).allowed


async def test_buckets_expire_when_they_are_full_again(limits: RateLimitStore, redis: MultiplexedRedis) -> None:
    tenant = new_id("ten_")
    await limits.take(tenant, "key_a", "inference", ClassRateLimits(key=1, tenant=2))
    of_key = await redis.send("PTTL", f"argosy:rates:{{{tenant}}}:inference:key_a")
    of_tenant = await redis.send("PTTL", f"argosy:rates:{{{tenant}}}:inference")

    assert 30_000 < of_key <= 60_000
    assert 0 < of_tenant <= 30_000


@pytest.mark.parametrize("written", [b"9" * 17, b"garbage", b"0", b"-1", b"1e400"])
async def test_an_invalid_value_is_a_full_bucket(
    limits: RateLimitStore, redis: MultiplexedRedis, written: bytes
) -> None:
    """Such as one that was written before Redis' clock was set back."""
    tenant = new_id("ten_")
    await redis.send("SET", f"argosy:rates:{{{tenant}}}:inference", written, "PX", 10_000)

    assert await limits.take(tenant, "key", "inference", ClassRateLimits(tenant=2)) == (True, 0, MINUTE_US // 2)


async def test_both_limits_are_one_round_trip(limits: RateLimitStore, redis: MultiplexedRedis) -> None:
    await limits.take(new_id("ten_"), "key", "inference", ClassRateLimits(key=5, tenant=5))
    sent: list[object] = []
    send = redis.send

    def recorded(*arguments: Any) -> Any:
        sent.append(arguments)
        return send(*arguments)

    redis.send = recorded  # type: ignore[method-assign]
    await limits.take(new_id("ten_"), "key", "inference", ClassRateLimits(key=5, tenant=5))

    assert len(sent) == 1


async def test_an_error_of_redis_is_unavailable(redis: MultiplexedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.rate_limits.redis.TAKE", Script("return redis.call('NO SUCH COMMAND')"))
    before = metric("gateway_rate_checks_total", result="unavailable")
    with pytest.raises(Unavailable):
        await RedisRateLimitStore(redis).take(new_id("ten_"), "key", "inference", ClassRateLimits(key=1))

    assert metric("gateway_rate_checks_total", result="unavailable") == before + 1


@pytest.mark.degraded(
    down="Redis", area="money", holds="each replica allows its share of a rate limit: the limit divided by the replicas"
)
@pytest.mark.degraded(
    down="Redis slow",
    area="money",
    holds="rate limits are shares after the time limit of 50 ms; budgets do not use Redis",
)
@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_while_redis_is_down_a_share_is_allowed_and_no_request_fails(
    limits: RateLimitStore, redis: MultiplexedRedis, proxy: TcpProxy, how: str
) -> None:
    assert redis._connection is not None
    redis._connection.set_timeout(0.25)
    limiter = RateLimiter(
        {},
        of_all_classes(ClassRateLimits(key=400)),
        shared=limits,
        local=InMemoryRateLimitStore(FakeClock()),  # nothing comes back, however long it takes
        replicas=4,
    )
    caller = Principal(new_id("ten_"), key_id="key_a")
    status = await limiter.check(caller, "inference")
    assert status is not None
    assert status.limit == 400

    allowed, refused = 0, 0

    async def send(times: int) -> None:
        nonlocal allowed, refused
        for _ in range(times):
            try:
                found = await limiter.check(caller, "inference")
            except RateLimitExceeded:
                refused += 1
            else:
                assert found is not None
                allowed += found.limit == 100

    senders = [asyncio.create_task(send(30)) for _ in range(10)]
    await asyncio.sleep(0)
    if how == "cut":
        await proxy.cut()
    else:
        proxy.freeze()
    async with asyncio.timeout(40):  # without the circuit breaker: more than 50 s, a time-out for each of the last 200
        await asyncio.gather(*senders)
        await send(200)
    assert allowed == 100
    assert refused == 400

    await proxy.mend()
    async with asyncio.timeout(30):
        while (await take_or_none(limits)) is None:
            await asyncio.sleep(0.02)
    status = await limiter.check(caller, "inference")
    assert status is not None
    assert status.limit == 400


async def take_or_none(limits: RateLimitStore) -> object:
    """Take without limits."""
    try:
        return await limits.take("ten_unlimited", "key", "inference", ClassRateLimits())
    except Unavailable:
        return None
