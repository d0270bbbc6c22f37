"""Rate limits in memory that can be taken away."""

from chassis.errors import Unavailable
from gateway.domain.buckets import Buckets
from gateway.domain.rates import Rates, Taken


class FakeRateLimits(Buckets):
    """`RateLimits` by the buckets of one process; `down` says that nobody can be asked."""

    down = False

    async def take(self, tenant_id: str, key_id: str, rates: Rates) -> Taken:
        if self.down:
            raise Unavailable("no rates")
        return await super().take(tenant_id, key_id, rates)
