"""Rates of plans: what a bucket means, whose it is, and what happens when nobody can count together."""

from datetime import timedelta

import pytest
from chassis.testing import FakeClock, a_principal
from gateway.domain.buckets import Buckets
from gateway.domain.rates import (
    MINUTE_US,
    MOST_PER_MINUTE,
    Limiter,
    RateLimitExceeded,
    RateLimits,
    Rates,
    Standing,
    Taken,
    cost_us,
    judged,
)

from services.gateway.tests.fakes.rates import FakeRateLimits
from services.gateway.tests.rates_contract import RateLimitsContract


class TestBuckets(RateLimitsContract):
    @pytest.fixture
    def limits(self) -> RateLimits:
        return Buckets(FakeClock())


async def test_a_bucket_refills_at_the_pace_of_its_plan() -> None:
    clock = FakeClock()
    buckets, rates = Buckets(clock), Rates(key=60)
    for _ in range(60):
        assert (await buckets.take("ten_a", "key_a", rates)).allowed
    assert not (await buckets.take("ten_a", "key_a", rates)).allowed
    clock.advance(timedelta(seconds=2))

    assert [(await buckets.take("ten_a", "key_a", rates)).allowed for _ in range(3)] == [True, True, False]


async def test_of_too_many_buckets_the_one_unused_for_longest_is_forgotten() -> None:
    buckets, rates = Buckets(FakeClock(), capacity=2), Rates(tenant=1)
    for tenant in ("ten_a", "ten_b", "ten_c"):
        await buckets.take(tenant, "key", rates)

    assert not (await buckets.take("ten_c", "key", rates)).allowed
    assert not (await buckets.take("ten_b", "key", rates)).allowed
    assert (await buckets.take("ten_a", "key", rates)).allowed


def test_the_tighter_limit_is_told() -> None:
    rates = Rates(key=60, tenant=120)

    assert judged(Taken(True, 1_000_000, 500_000), rates) == Standing(60, 59, 1.0)
    assert judged(Taken(True, 1_000_000, MINUTE_US - 500_000), rates) == Standing(120, 1, 59.5)
    assert judged(Taken(True, 0, 500_000), Rates(tenant=120)) == Standing(120, 119, 0.5)
    assert judged(Taken(True, 0, 0), Rates()) is None


@pytest.mark.parametrize(
    ("key_used_us", "tenant_used_us", "scope", "wait_seconds"),
    [
        (MINUTE_US, 500_000, "key", 1.0),
        (1_000_000, MINUTE_US, "tenant", 0.5),
        (MINUTE_US - 900_000, MINUTE_US, "tenant", 0.5),
        (MINUTE_US, MINUTE_US, "key", 1.0),
    ],
)
def test_a_refusal_names_who_sent_too_much_and_how_long_to_wait(
    key_used_us: int, tenant_used_us: int, scope: str, wait_seconds: float
) -> None:
    with pytest.raises(RateLimitExceeded, match=f"this {scope} may send") as refused:
        judged(Taken(False, key_used_us, tenant_used_us), Rates(key=60, tenant=120))

    assert refused.value.scope == scope
    assert refused.value.retry_after == timedelta(seconds=wait_seconds)
    assert refused.value.standing.remaining == 0


async def test_a_plan_has_its_own_rates_and_every_other_the_default() -> None:
    limits = FakeRateLimits(FakeClock())
    limiter = Limiter({"small": Rates(tenant=1)}, Rates(tenant=9), shared=limits, local=limits, replicas=1)

    assert await limiter.admit(a_principal("ten_a", plan="small")) == Standing(1, 0, 60.0)
    assert await limiter.admit(a_principal("ten_b", plan="grown")) == Standing(9, 8, pytest.approx(60 / 9))


@pytest.mark.parametrize(("written", "plan"), [("pro", "Pro"), ("Pro", "pro"), ("PRO", "Pro")])
async def test_a_plan_is_found_whatever_the_case_of_its_name(written: str, plan: str) -> None:
    limits = FakeRateLimits(FakeClock())
    limiter = Limiter({written: Rates(key=1)}, Rates(key=9), shared=limits, local=limits, replicas=1)
    standing = await limiter.admit(a_principal(plan=plan))

    assert standing is not None
    assert standing.limit == 1


async def test_a_replica_alone_lets_its_share_in_and_starts_anew_when_they_count_together_again() -> None:
    clock = FakeClock()
    limits = FakeRateLimits(clock)
    limiter = Limiter({}, Rates(key=6), shared=limits, local=Buckets(clock), replicas=3)
    await limiter.admit(a_principal())
    limits.down = True

    assert [await remaining(limiter) for _ in range(3)] == [1, 0, None]
    limits.down = False
    assert await remaining(limiter) == 4


def test_a_share_is_never_nothing_and_no_limit_stays_none() -> None:
    assert Rates(key=0, tenant=2).share(5) == Rates(key=0, tenant=1)


@pytest.mark.parametrize("rate", [1, 7, 59, 600_000, MOST_PER_MINUTE])
def test_a_minute_holds_what_the_plan_says(rate: int) -> None:
    assert rate <= MINUTE_US // cost_us(rate) <= rate * 1.02


async def remaining(limiter: Limiter) -> int | None:
    """What is left after one more request; None when it was refused."""
    try:
        standing = await limiter.admit(a_principal())
    except RateLimitExceeded:
        return None
    assert standing is not None
    return standing.remaining
