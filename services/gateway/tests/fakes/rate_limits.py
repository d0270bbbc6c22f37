"""Rate limits in memory that can be unavailable."""

from chassis.errors import Unavailable
from gateway.rate_limits.memory import InMemoryRateLimitStore
from gateway.rate_limits.model import PlanRateLimits, TakeResult


class FakeRateLimitStore(InMemoryRateLimitStore):
    """`RateLimitStore` in memory; while `down`, it is Unavailable."""

    down = False

    async def take(self, tenant_id: str, key_id: str, limits: PlanRateLimits) -> TakeResult:
        if self.down:
            raise Unavailable("redis does not answer")
        return await super().take(tenant_id, key_id, limits)
