"""Rate limits in memory that can be unavailable."""

from chassis.errors import Unavailable
from gateway.rate_limits.limiter import ClassRateLimits, RequestClass, TakeResult
from gateway.rate_limits.memory import InMemoryRateLimitStore


class FakeRateLimitStore(InMemoryRateLimitStore):
    """`RateLimitStore` in memory; while `down`, it is Unavailable."""

    down = False

    async def take(self, tenant_id: str, key_id: str, kind: RequestClass, limits: ClassRateLimits) -> TakeResult:
        if self.down:
            raise Unavailable("redis does not answer")
        return await super().take(tenant_id, key_id, kind, limits)
