"""Requests per minute that a plan allows to one key and to its whole tenant, for each class of requests.

A limit is a bucket (GCRA): it holds the requests of a minute and refills steadily, so that a client that was idle may
send a burst of one minute's requests. Stores keep one number for a bucket: the time that it needs to be full again
("used").
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal, NamedTuple, Protocol

from chassis.errors import ArgosyError, Kind

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
