"""Rate limits on a real Redis, behind a wire that can be cut and frozen."""

import asyncio
import os
from collections.abc import AsyncIterator
from time import monotonic
from urllib.parse import urlsplit

import pytest
from chassis.clock import SystemClock
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.redis import MultiplexedRedis, Script
from chassis.settings import RedisSection
from chassis.tenancy import Principal
from chassis.testing.network import TcpProxy
from gateway.adapters.rates import RedisRateLimits
from gateway.domain.buckets import Buckets
from gateway.domain.rates import MINUTE_US, Limiter, RateLimitExceeded, RateLimits, Rates
from gateway.metrics import RATE_CHECKS

from services.gateway.tests.rates_contract import RateLimitsContract


@pytest.fixture
async def wire() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as wire:
        yield wire


@pytest.fixture
async def redis(wire: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedRedis]:
    # 50 ms can pass on a busy test machine without any fault of Redis.
    monkeypatch.setattr("chassis.redis.multiplexed.PATIENCE_SECONDS", 0.25)
    async with MultiplexedRedis(RedisSection(url=f"redis://127.0.0.1:{wire.port}/0")) as redis:
        yield redis


@pytest.fixture
def limits(redis: MultiplexedRedis) -> RateLimits:
    return RedisRateLimits(redis)


class TestRedisRateLimits(RateLimitsContract):
    """The contract, on Redis."""


async def test_a_bucket_refills_by_redis_own_clock(limits: RateLimits) -> None:
    tenant, rates = new_id("ten_"), Rates(tenant=1200)  # one each 50 ms
    for _ in range(1200):
        await limits.take(tenant, "key", rates)
    while (await limits.take(tenant, "key", rates)).allowed:
        pass  # what has come back since the first one
    await asyncio.sleep(0.06)

    assert (await limits.take(tenant, "key", rates)).allowed


async def test_buckets_leave_when_they_are_full_again(limits: RateLimits, redis: MultiplexedRedis) -> None:
    tenant = new_id("ten_")
    await limits.take(tenant, "key_a", Rates(key=1, tenant=60))
    of_key = await redis.send("PTTL", f"argosy:rates:{{{tenant}}}:key_a")
    of_tenant = await redis.send("PTTL", f"argosy:rates:{{{tenant}}}")

    assert 50_000 < of_key <= 60_000
    assert 0 < of_tenant <= 1_000


@pytest.mark.parametrize("written", [b"9" * 17, b"garbage", b"0", b"-1", b"1e400"])
async def test_what_cannot_be_a_bucket_is_a_full_one(
    limits: RateLimits, redis: MultiplexedRedis, written: bytes
) -> None:
    """Such as one that was written before Redis' clock was set back."""
    tenant = new_id("ten_")
    await redis.send("SET", f"argosy:rates:{{{tenant}}}", written, "PX", 10_000)

    assert await limits.take(tenant, "key", Rates(tenant=2)) == (True, 0, MINUTE_US // 2)


async def test_both_limits_are_one_round_trip(limits: RateLimits, redis: MultiplexedRedis) -> None:
    await limits.take(new_id("ten_"), "key", Rates(key=5, tenant=5))
    sent: list[object] = []
    send = redis.send
    redis.send = lambda *arguments: (sent.append(arguments), send(*arguments))[1]  # type: ignore[method-assign]
    await limits.take(new_id("ten_"), "key", Rates(key=5, tenant=5))

    assert len(sent) == 1


async def test_a_redis_that_refuses_is_unavailable(redis: MultiplexedRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.adapters.rates.TAKE", Script("return redis.call('NO SUCH COMMAND')"))
    before = RATE_CHECKS.labels("unavailable")._value.get()
    with pytest.raises(Unavailable):
        await RedisRateLimits(redis).take(new_id("ten_"), "key", Rates(key=1))

    assert RATE_CHECKS.labels("unavailable")._value.get() == before + 1


@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_a_redis_that_goes_fails_no_request_and_lets_a_share_in(
    limits: RateLimits, redis: MultiplexedRedis, wire: TcpProxy, how: str
) -> None:
    limiter = Limiter({}, Rates(key=400), shared=limits, local=Buckets(SystemClock()), replicas=4)
    caller = Principal(new_id("ten_"), key_id="key_a")
    standing = await limiter.admit(caller)
    assert standing is not None
    assert standing.limit == 400

    admitted, refused = 0, 0

    async def ask(times: int) -> None:
        nonlocal admitted, refused
        for _ in range(times):
            try:
                found = await limiter.admit(caller)
            except RateLimitExceeded:
                refused += 1
            else:
                assert found is not None
                admitted += found.limit == 100

    asking = [asyncio.create_task(ask(30)) for _ in range(10)]
    await asyncio.sleep(0)
    if how == "cut":
        await wire.cut()
    else:
        wire.freeze()
    began = monotonic()
    await asyncio.gather(*asking)
    await ask(200)
    assert monotonic() - began < 5
    assert 100 <= admitted <= 110
    assert refused > 0

    await wire.mend()
    async with asyncio.timeout(10):
        while (await limits_or_none(limits)) is None:
            await asyncio.sleep(0.02)
    standing = await limiter.admit(caller)
    assert standing is not None
    assert standing.limit == 400


async def limits_or_none(limits: RateLimits) -> object:
    """Ask for nothing."""
    try:
        return await limits.take("ten_nobody", "key", Rates())
    except Unavailable:
        return None
