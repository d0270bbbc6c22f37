"""Rate limits in the memory of one process: what is left when the gateways cannot count together."""

from collections import OrderedDict

from chassis.clock import Clock

from .rates import MINUTE_US, Rates, Taken, cost_us


class Buckets:
    """`RateLimits` of this process alone. Of more than `capacity` buckets, those unused for longest are forgotten."""

    def __init__(self, clock: Clock, capacity: int = 100_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._full_at_us: OrderedDict[tuple[str, str | None], int] = OrderedDict()

    async def take(self, tenant_id: str, key_id: str, rates: Rates) -> Taken:
        """Let one request in if both buckets have room for it, else take from neither."""
        now_us = int(self._clock.monotonic() * 1_000_000)
        of_key, of_tenant = (tenant_id, key_id), (tenant_id, None)
        key_cost, tenant_cost = cost_us(rates.key), cost_us(rates.tenant)
        key_used = self._used_us(of_key, now_us) if key_cost else 0
        tenant_used = self._used_us(of_tenant, now_us) if tenant_cost else 0
        if key_used + key_cost > MINUTE_US or tenant_used + tenant_cost > MINUTE_US:
            return Taken(False, key_used, tenant_used)
        for bucket, used_us, cost in ((of_key, key_used, key_cost), (of_tenant, tenant_used, tenant_cost)):
            if cost:
                self._keep(bucket, now_us + used_us + cost)
        return Taken(True, key_used + key_cost, tenant_used + tenant_cost)

    def _used_us(self, bucket: tuple[str, str | None], now_us: int) -> int:
        return max(0, self._full_at_us.get(bucket, 0) - now_us)

    def _keep(self, bucket: tuple[str, str | None], full_at_us: int) -> None:
        self._full_at_us[bucket] = full_at_us
        self._full_at_us.move_to_end(bucket)
        if len(self._full_at_us) > self._capacity:
            self._full_at_us.popitem(last=False)
