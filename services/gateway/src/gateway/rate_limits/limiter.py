"""How many requests a minute a plan allows, to one key and to its whole tenant.

A limit is a bucket that holds a minute's requests and refills steadily: who was quiet may send a minute's worth at
once, then goes on at the plan's pace. A bucket is kept as one number, the time that it needs to be full again ("used");
that is all the stores know. What it means is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, Protocol

from chassis.errors import ArgosyError, Kind, Unavailable
from chassis.tenancy import Principal

MINUTE_US = 60_000_000  # microseconds
MOST_PER_MINUTE = 1_000_000  # costs are whole microseconds; beyond this they would be too coarse


@dataclass(frozen=True, slots=True)
class Rates:
    """What a plan allows: requests per minute to a key and to its tenant; 0 is as many as they like."""

    key: int = 0
    tenant: int = 0

    def share(self, replicas: int) -> "Rates":
        """What one of `replicas` gateways may let in while they cannot count together; never nothing."""
        return Rates(*(max(1, rate // replicas) if rate else 0 for rate in (self.key, self.tenant)))


def cost_us(rate: int) -> int:
    """What a request takes of the minute, in microseconds; 0 where there is no limit."""
    return MINUTE_US // rate if rate else 0


class Taken(NamedTuple):
    """What became of a request: whether it was let in, and how much of either bucket is used now, in microseconds."""

    allowed: bool
    key_used_us: int
    tenant_used_us: int


class Standing(NamedTuple):
    """How a caller stands with the tighter of its limits."""

    limit: int
    remaining: int
    reset_seconds: float


class RateLimitExceeded(ArgosyError):
    """The key, or its tenant, has sent more requests a minute than its plan allows; wait for `retry-after`."""

    kind = Kind.THROTTLED
    reason = "RATE_LIMIT_EXCEEDED"

    def __init__(self, scope: str, standing: Standing, wait_seconds: float) -> None:
        super().__init__(
            f"Rate limit reached: this {scope} may send {standing.limit} requests per minute. "
            f"Please try again in {wait_seconds:.3f}s.",
            retry_after=timedelta(seconds=wait_seconds),
        )
        self.scope = scope
        self.standing = standing


class RateLimits(Protocol):
    """Keeps the buckets."""

    async def take(self, tenant_id: str, key_id: str, rates: Rates) -> Taken:
        """Let one request in if both buckets have room for it, else take from neither. Raises Unavailable."""
        ...


class Limiter:
    """Lets requests in at the pace of their plan. While `shared` is Unavailable, each replica counts its own share.

    Plans are found whatever the case of their names: variables of the environment have none.
    """

    def __init__(
        self, plans: Mapping[str, Rates], default: Rates, *, shared: RateLimits, local: RateLimits, replicas: int
    ) -> None:
        self._plans = {name.lower(): rates for name, rates in plans.items()}
        self._default = default
        self._shared = shared
        self._local = local
        self._replicas = replicas

    async def admit(self, principal: Principal) -> Standing | None:
        """Count a request; None where nothing is limited. Raises RateLimitExceeded."""
        rates = self._plans.get(principal.plan.lower(), self._default)
        try:
            taken = await self._shared.take(principal.tenant_id, principal.key_id, rates)
        except Unavailable:
            rates = rates.share(self._replicas)
            taken = await self._local.take(principal.tenant_id, principal.key_id, rates)
        return judged(taken, rates)


def judged(taken: Taken, rates: Rates) -> Standing | None:
    """Say how the caller stands. Raises RateLimitExceeded when the request was not let in."""
    tightest: Standing | None = None
    refused, refusal, longest_us = "", None, -1
    for scope, rate, used_us in (("key", rates.key, taken.key_used_us), ("tenant", rates.tenant, taken.tenant_used_us)):
        if not rate:
            continue
        cost = MINUTE_US // rate
        left_us = MINUTE_US - used_us
        standing = Standing(rate, left_us // cost, used_us / 1_000_000)
        if tightest is None or standing.remaining < tightest.remaining:
            tightest = standing
        if cost - left_us > longest_us:
            refused, refusal, longest_us = scope, standing, cost - left_us
    if not taken.allowed and refusal is not None:
        raise RateLimitExceeded(refused, refusal, max(longest_us, 0) / 1_000_000)
    return tightest
