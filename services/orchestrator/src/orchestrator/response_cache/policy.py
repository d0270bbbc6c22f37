"""Whether, and how, a request uses the response cache."""

from datetime import timedelta
from functools import lru_cache
from typing import Protocol

from orchestrator.response_cache.model import CacheControl, CacheMode, CachePolicy, Charge, ExactMode
from orchestrator.routing import policy as routes
from orchestrator.routing.model import Route


class CachePolicyOf(Protocol):
    """Finds the policy of a route. Called for every request, so it only looks up."""

    def __call__(self, route: Route) -> CachePolicy: ...


def mode_of(policy: CachePolicy, control: CacheControl | None) -> CacheMode:
    """Return how a request uses the exact cache. A route that turns it off cannot be overruled."""
    if policy.exact is ExactMode.OFF:
        return CacheMode.OFF
    if control is None or control.mode is None:
        # A request that only names an age wants cached answers no more than others do.
        return CacheMode.ON if policy.exact is ExactMode.ON else CacheMode.OFF
    return control.mode


def by_route(default: CachePolicy) -> CachePolicyOf:
    """Return what finds the policy of a route: its own if it has the cache on or disables it, else `default`."""

    @lru_cache(maxsize=1024)
    def policy_of(cache: routes.CachePolicy) -> CachePolicy:
        if cache.disabled:
            return CachePolicy(ExactMode.OFF)
        return CachePolicy(
            ExactMode.ON,
            timedelta(seconds=cache.ttl_seconds),
            timedelta(seconds=cache.stale_if_error_seconds),
            Charge(cache.charge.value),
            cache.discount_percent,
            cache.threshold if cache.semantic else None,
        )

    def find(route: Route) -> CachePolicy:
        cache = route.policy.cache
        # Without the hash of a look-up: most routes say nothing.
        return policy_of(cache) if cache.exact or cache.disabled else default

    return find
