"""Decide whether a request is within its plan: requests per minute of a key and of its tenant, for each class.

A limit is a bucket (GCRA): it holds the requests of a minute and refills steadily, so that a client that was idle may
send a burst of one minute's requests. Stores keep one number for a bucket: the time that it needs to be full again
("used").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple, Protocol

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.tenancy import Principal

MINUTE_US = 60_000_000  # microseconds
MAX_REQUESTS_PER_MINUTE = 1_000_000  # a request's cost is whole microseconds; above this, rounding would be too coarse

RequestClass = Literal["inference", "reads", "writes", "uploads"]
"""Each has buckets of its own: a client that lists files does not use up its completions."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CLASS_BY_ROUTE: Final[Mapping[tuple[str, str], RequestClass]] = {
    ("POST", "/v1/files"): "uploads",
    ("POST", "/v1/vector_stores/{vector_store_id}/search"): "reads",
}
"""Routes whose class does not follow from their method."""


def request_class(method: str, route: str) -> RequestClass:
    """Return the class of a request that is no inference. `route` is a template."""
    return CLASS_BY_ROUTE.get((method, route)) or ("reads" if method in SAFE_METHODS else "writes")


@dataclass(frozen=True, slots=True)
class ClassRateLimits:
    """Requests per minute of a key and of its tenant in one class; 0 is unlimited."""

    key: int = 0
    tenant: int = 0

    def share(self, replicas: int) -> "ClassRateLimits":
        """The part of one replica while Redis is down; at least 1 where there is a limit."""
        return ClassRateLimits(*(max(1, limit // replicas) if limit else 0 for limit in (self.key, self.tenant)))


def request_cost_us(limit: int) -> int:
    """Microseconds of a bucket that one request uses; 0 without a limit."""
    return MINUTE_US // limit if limit else 0


class TakeResult(NamedTuple):
    """Whether a request was allowed, and how much of either bucket is used now, in microseconds."""

    allowed: bool
    key_used_us: int
    tenant_used_us: int


class RateLimitStatus(NamedTuple):
    """The state of the tighter of a caller's limits."""

    limit: int
    remaining: int
    reset_seconds: float


class RateLimitExceeded(ArgosyError):
    """The key, or its tenant, has sent more requests a minute than its plan allows; wait for `retry-after`."""

    kind, reason = Kind.THROTTLED, "RATE_LIMIT_EXCEEDED"

    def __init__(self, scope: str, status: RateLimitStatus, wait_seconds: float) -> None:
        super().__init__(
            f"Rate limit reached: this {scope} may send {status.limit} requests per minute. "
            f"Please try again in {wait_seconds:.3f}s.",
            retry_after=timedelta(seconds=wait_seconds),
        )
        self.scope = scope
        self.status = status


PlanLimits = Mapping[RequestClass, ClassRateLimits]


class RateLimitStore(Protocol):
    async def take(self, tenant_id: str, key_id: str, kind: RequestClass, limits: ClassRateLimits) -> TakeResult:
        """Allow a request and take it from both buckets, or take it from neither. Raises Unavailable."""
        ...


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
