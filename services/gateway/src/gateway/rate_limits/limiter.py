"""Decide whether a request is within the limits of its plan."""

from collections.abc import Mapping

from chassis.errors import Unavailable
from chassis.tenancy import Principal

from gateway.rate_limits.model import (
    MINUTE_US,
    ClassRateLimits,
    PlanLimits,
    RateLimitExceeded,
    RateLimitStatus,
    RateLimitStore,
    RequestClass,
    TakeResult,
)


class RateLimiter:
    """Counts requests in the `shared` store; while that is Unavailable, in `local` against this replica's share.

    Names of plans match case-insensitively, because environment variables have no case.
    """

    def __init__(
        self,
        plans: Mapping[str, PlanLimits],
        default: PlanLimits,
        *,
        shared: RateLimitStore,
        local: RateLimitStore,
        replicas: int,
    ) -> None:
        self._plans = {name.lower(): limits for name, limits in plans.items()}
        self._default = default
        self._shared = shared
        self._local = local
        self._replicas = replicas

    async def check(self, principal: Principal, kind: RequestClass) -> RateLimitStatus | None:
        """Count a request; None when nothing is limited. Raises RateLimitExceeded."""
        limits = self._plans.get(principal.plan.lower(), self._default)[kind]
        try:
            result = await self._shared.take(principal.tenant_id, principal.key_id, kind, limits)
        except Unavailable:
            limits = limits.share(self._replicas)
            result = await self._local.take(principal.tenant_id, principal.key_id, kind, limits)
        return evaluate(result, limits)


def evaluate(result: TakeResult, limits: ClassRateLimits) -> RateLimitStatus | None:
    """Return the status of the tighter limit. Raises RateLimitExceeded when the request was not allowed."""
    tightest: RateLimitStatus | None = None
    exceeded_scope, exceeded, max_wait_us = "", None, -1
    for scope, limit, used_us in (
        ("key", limits.key, result.key_used_us),
        ("tenant", limits.tenant, result.tenant_used_us),
    ):
        if not limit:
            continue
        cost_us = MINUTE_US // limit
        free_us = MINUTE_US - used_us
        status = RateLimitStatus(limit, free_us // cost_us, used_us / 1_000_000)
        if tightest is None or status.remaining < tightest.remaining:
            tightest = status
        if cost_us - free_us > max_wait_us:
            exceeded_scope, exceeded, max_wait_us = scope, status, cost_us - free_us
    if not result.allowed and exceeded is not None:
        raise RateLimitExceeded(exceeded_scope, exceeded, max(max_wait_us, 0) / 1_000_000)
    return tightest
