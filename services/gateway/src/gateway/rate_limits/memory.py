"""Rate limits in the memory of one process, for the time when Redis is down."""

from cachetools import LRUCache
from chassis.clock import Clock

from gateway.rate_limits.limiter import MINUTE_US, ClassRateLimits, RequestClass, TakeResult, request_cost_us

Bucket = tuple[str, RequestClass, str | None]


class InMemoryRateLimitStore:
    """`RateLimitStore` of this process. Above `capacity` buckets, the least recently used is dropped."""

    def __init__(self, clock: Clock, capacity: int = 100_000) -> None:
        self._clock = clock
        self._full_at_us: LRUCache[Bucket, int] = LRUCache(capacity)

    async def take(self, tenant_id: str, key_id: str, kind: RequestClass, limits: ClassRateLimits) -> TakeResult:
        now_us = int(self._clock.monotonic() * 1_000_000)
        key_bucket, tenant_bucket = (tenant_id, kind, key_id), (tenant_id, kind, None)
        key_cost, tenant_cost = request_cost_us(limits.key), request_cost_us(limits.tenant)
        key_used = self._used_us(key_bucket, now_us) if key_cost else 0
        tenant_used = self._used_us(tenant_bucket, now_us) if tenant_cost else 0
        if key_used + key_cost > MINUTE_US or tenant_used + tenant_cost > MINUTE_US:
            return TakeResult(False, key_used, tenant_used)
        if key_cost:
            self._full_at_us[key_bucket] = now_us + key_used + key_cost
        if tenant_cost:
            self._full_at_us[tenant_bucket] = now_us + tenant_used + tenant_cost
        return TakeResult(True, key_used + key_cost, tenant_used + tenant_cost)

    def _used_us(self, bucket: Bucket, now_us: int) -> int:
        return max(0, self._full_at_us.get(bucket, 0) - now_us)
