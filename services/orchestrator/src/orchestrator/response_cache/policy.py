"""Whether, and how, a request uses the response cache."""

from typing import Protocol

from orchestrator.response_cache.model import CacheControl, CacheMode, CachePolicy, ExactMode
from orchestrator.routing.model import Route


class CachePolicyOf(Protocol):
    """Finds the policy of a route. Called for every request, so it only finds up."""

    def __call__(self, route: Route) -> CachePolicy: ...


def mode_of(policy: CachePolicy, control: CacheControl | None) -> CacheMode:
    """Return how a request uses the exact cache. A route that turns it off cannot be overruled."""
    if policy.exact is ExactMode.OFF:
        return CacheMode.OFF
    if control is None or control.mode is None:
        # A request that only names an age wants cached answers no more than others do.
        return CacheMode.ON if policy.exact is ExactMode.ON else CacheMode.OFF
    return control.mode
