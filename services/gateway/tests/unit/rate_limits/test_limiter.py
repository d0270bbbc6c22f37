"""Limits of plans: what a bucket means, and what happens when Redis is down."""

from datetime import timedelta

import pytest
from chassis.testing import FakeClock, a_principal
from gateway.rate_limits.limiter import (
    MAX_REQUESTS_PER_MINUTE,
    MINUTE_US,
    ClassRateLimits,
    RateLimiter,
    RateLimitExceeded,
    RateLimitStatus,
    RateLimitStore,
    TakeResult,
    evaluate,
    request_cost_us,
)
from gateway.rate_limits.memory import InMemoryRateLimitStore

from services.gateway.tests.fakes.gateway import of_all_classes
from services.gateway.tests.fakes.rate_limits import FakeRateLimitStore
from services.gateway.tests.rate_limits_contract import RateLimitStoreContract


class TestBuckets(RateLimitStoreContract):
    @pytest.fixture
    def limits(self) -> RateLimitStore:
        return InMemoryRateLimitStore(FakeClock())


async def test_a_bucket_refills_at_the_pace_of_its_plan() -> None:
    clock = FakeClock()
    buckets, rates = InMemoryRateLimitStore(clock), ClassRateLimits(key=60)
    for _ in range(60):
        assert (await buckets.take("ten_a", "key_a", "inference", rates)).allowed
    assert not (await buckets.take("ten_a", "key_a", "inference", rates)).allowed
    clock.advance(timedelta(seconds=2))

    assert [(await buckets.take("ten_a", "key_a", "inference", rates)).allowed for _ in range(3)] == [True, True, False]


async def test_the_least_recently_used_bucket_is_evicted() -> None:
    buckets, rates = InMemoryRateLimitStore(FakeClock(), capacity=2), ClassRateLimits(tenant=1)
    for tenant in ("ten_a", "ten_b", "ten_c"):
        await buckets.take(tenant, "key", "inference", rates)

    assert not (await buckets.take("ten_c", "key", "inference", rates)).allowed
    assert not (await buckets.take("ten_b", "key", "inference", rates)).allowed
    assert (await buckets.take("ten_a", "key", "inference", rates)).allowed


def test_the_tighter_limit_is_the_status() -> None:
    rates = ClassRateLimits(key=60, tenant=120)

    assert evaluate(TakeResult(True, 1_000_000, 500_000), rates) == RateLimitStatus(60, 59, 1.0)
    assert evaluate(TakeResult(True, 1_000_000, MINUTE_US - 500_000), rates) == RateLimitStatus(120, 1, 59.5)
    assert evaluate(TakeResult(True, 0, 500_000), ClassRateLimits(tenant=120)) == RateLimitStatus(120, 119, 0.5)
    assert evaluate(TakeResult(True, 0, 0), ClassRateLimits()) is None


@pytest.mark.parametrize(
    ("key_used_us", "tenant_used_us", "scope", "wait_seconds"),
    [
        (MINUTE_US, 500_000, "key", 1.0),
        (1_000_000, MINUTE_US, "tenant", 0.5),
        (MINUTE_US - 900_000, MINUTE_US, "tenant", 0.5),
        (MINUTE_US, MINUTE_US, "key", 1.0),
    ],
)
def test_the_error_names_the_scope_and_the_wait(
    key_used_us: int, tenant_used_us: int, scope: str, wait_seconds: float
) -> None:
    with pytest.raises(RateLimitExceeded, match=f"this {scope} may send") as refused:
        evaluate(TakeResult(False, key_used_us, tenant_used_us), ClassRateLimits(key=60, tenant=120))

    assert refused.value.scope == scope
    assert refused.value.retry_after == timedelta(seconds=wait_seconds)
    assert refused.value.status.remaining == 0


async def test_a_plan_without_limits_of_its_own_has_the_default() -> None:
    limits = FakeRateLimitStore(FakeClock())
    limiter = RateLimiter(
        {"small": of_all_classes(ClassRateLimits(tenant=1))},
        of_all_classes(ClassRateLimits(tenant=9)),
        shared=limits,
        local=limits,
        replicas=1,
    )

    assert await limiter.check(a_principal("ten_a", plan="small"), "inference") == RateLimitStatus(1, 0, 60.0)
    status = await limiter.check(a_principal("ten_b", plan="grown"), "inference")
    assert status is not None
    assert (status.limit, status.remaining) == (9, 8)
    assert status.reset_seconds == pytest.approx(60 / 9)


@pytest.mark.parametrize(("written", "plan"), [("pro", "Pro"), ("Pro", "pro"), ("PRO", "Pro")])
async def test_names_of_plans_match_case_insensitively(written: str, plan: str) -> None:
    limits = FakeRateLimitStore(FakeClock())
    limiter = RateLimiter(
        {written: of_all_classes(ClassRateLimits(key=1))},
        of_all_classes(ClassRateLimits(key=9)),
        shared=limits,
        local=limits,
        replicas=1,
    )
    standing = await limiter.check(a_principal(plan=plan), "inference")

    assert standing is not None
    assert standing.limit == 1


async def test_a_replica_allows_its_share_while_redis_is_down() -> None:
    clock = FakeClock()
    limits = FakeRateLimitStore(clock)
    limiter = RateLimiter(
        {}, of_all_classes(ClassRateLimits(key=6)), shared=limits, local=InMemoryRateLimitStore(clock), replicas=3
    )
    await limiter.check(a_principal(), "inference")
    limits.down = True

    assert [await remaining(limiter) for _ in range(3)] == [1, 0, None]
    limits.down = False
    assert await remaining(limiter) == 4


def test_a_share_is_at_least_one_and_unlimited_stays_unlimited() -> None:
    assert ClassRateLimits(key=0, tenant=2).share(5) == ClassRateLimits(key=0, tenant=1)


@pytest.mark.parametrize("rate", [1, 7, 59, 600_000, MAX_REQUESTS_PER_MINUTE])
def test_a_bucket_holds_the_requests_of_a_minute(rate: int) -> None:
    assert rate <= MINUTE_US // request_cost_us(rate) <= rate * 1.02


async def remaining(limiter: RateLimiter) -> int | None:
    """What is left after one more request; None when it was refused."""
    try:
        standing = await limiter.check(a_principal(), "inference")
    except RateLimitExceeded:
        return None
    assert standing is not None
    return standing.remaining
