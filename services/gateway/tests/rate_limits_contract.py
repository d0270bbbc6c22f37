"""What a `RateLimitStore` promises. Subclasses give `limits`; the same tests run in memory and on Redis.

Limits are small, so that a bucket does not refill while a test runs: at 2 a minute, a request takes half a minute back.
"""

import asyncio

from chassis.ids import new_id
from gateway.rate_limits.limiter import MINUTE_US, ClassRateLimits, RateLimitStore

HALF = MINUTE_US // 2
SLACK = MINUTE_US // 20  # what may flow back while a test waits for its turn on a busy machine


def about(value: int, expected: int) -> bool:
    """A bucket refills all the time."""
    return expected - SLACK <= value <= expected


class RateLimitStoreContract:
    async def test_a_bucket_holds_a_minute_of_requests(self, limits: RateLimitStore) -> None:
        tenant, rates = new_id("ten_"), ClassRateLimits(key=2)
        first = await limits.take(tenant, "key_a", "inference", rates)
        second = await limits.take(tenant, "key_a", "inference", rates)
        third = await limits.take(tenant, "key_a", "inference", rates)

        assert [taken.allowed for taken in (first, second, third)] == [True, True, False]
        assert about(first.key_used_us, HALF)
        assert about(second.key_used_us, MINUTE_US)
        assert about(third.key_used_us, MINUTE_US)
        assert {taken.tenant_used_us for taken in (first, second, third)} == {0}

    async def test_keys_of_a_tenant_share_its_bucket_and_have_their_own(self, limits: RateLimitStore) -> None:
        tenant, rates = new_id("ten_"), ClassRateLimits(key=2, tenant=3)
        taken = [
            await limits.take(tenant, key, "inference", rates) for key in ("key_a", "key_a", "key_a", "key_b", "key_b")
        ]

        assert [one.allowed for one in taken] == [True, True, False, True, False]
        assert about(taken[4].key_used_us, HALF)
        assert about(taken[4].tenant_used_us, MINUTE_US)

    async def test_what_one_bucket_refuses_is_not_taken_from_the_other(self, limits: RateLimitStore) -> None:
        tenant, rates = new_id("ten_"), ClassRateLimits(key=2, tenant=1)
        for _ in range(3):
            last = await limits.take(tenant, "key_a", "inference", rates)

        assert about(last.key_used_us, HALF)
        assert (await limits.take(tenant, "key_a", "inference", ClassRateLimits(key=2))).allowed

    async def test_a_caller_without_a_key_does_not_pay_twice(self, limits: RateLimitStore) -> None:
        taken = await limits.take(new_id("ten_"), "", "inference", ClassRateLimits(key=2, tenant=4))

        assert about(taken.key_used_us, HALF)
        assert about(taken.tenant_used_us, HALF // 2)

    async def test_tenants_do_not_share(self, limits: RateLimitStore) -> None:
        rates = ClassRateLimits(key=1, tenant=1)

        assert [(await limits.take(new_id("ten_"), "key_a", "inference", rates)).allowed for _ in range(3)] == [
            True
        ] * 3

    async def test_without_limits_nothing_is_counted(self, limits: RateLimitStore) -> None:
        tenant = new_id("ten_")

        assert {await limits.take(tenant, "key_a", "inference", ClassRateLimits()) for _ in range(5)} == {(True, 0, 0)}

    async def test_a_limit_that_does_not_divide_a_minute_is_whole(self, limits: RateLimitStore) -> None:
        tenant, rates = new_id("ten_"), ClassRateLimits(tenant=7)
        taken = [await limits.take(tenant, "key_a", "inference", rates) for _ in range(8)]

        assert [one.allowed for one in taken] == [True] * 7 + [False]

    async def test_those_who_ask_at_once_get_no_more_than_there_is(self, limits: RateLimitStore) -> None:
        tenant, rates = new_id("ten_"), ClassRateLimits(key=5, tenant=100)
        taken = await asyncio.gather(*(limits.take(tenant, "key_a", "inference", rates) for _ in range(40)))

        assert sum(one.allowed for one in taken) == 5
