"""The cache as chat completions use it: asked before a plan runs, given the answer after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chassis.errors import ArgosyError, Kind
from values.money import Price
from values.usage import TokenUsage

from orchestrator.limits import Deadline
from orchestrator.response_cache.charge import CacheCharges
from orchestrator.response_cache.complete import is_complete
from orchestrator.response_cache.key import cache_key
from orchestrator.response_cache.look_up import Lease, Lookup, ResponseCache
from orchestrator.response_cache.model import CacheControl, CachedAnswer, CacheMode
from orchestrator.response_cache.policy import CachePolicyOf, mode_of
from orchestrator.routing.model import Route, RouteCandidate

STALE_KINDS = frozenset({Kind.UPSTREAM, Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.THROTTLED, Kind.INTERNAL})
"""Errors after which a stale answer helps: the providers failed, not the request."""
RAW_BYTES_PER_ENTRY_BYTE = 2
"""An answer is recorded up to this multiple of what may be kept: it may be compressed."""


@dataclass(frozen=True, slots=True)
class ChatCache:
    """The cache, the policies of routes, and what hits cost."""

    cache: ResponseCache
    policy_of: CachePolicyOf
    charges: CacheCharges

    async def look_up(
        self,
        tenant_id: str,
        route: Route,
        candidates: Sequence[RouteCandidate],
        document: Mapping[str, object],
        *,
        output_limit: int | None,
        control: CacheControl | None,
        deadline: Deadline,
        stream: bool,
    ) -> Lookup | None:
        """Ask the cache; None for a request that does not use it. It never fails.

        `candidates` are those that may answer this request.
        """
        policy = self.policy_of(route)
        mode = mode_of(policy, control)
        if mode is CacheMode.OFF:
            return None
        key = cache_key(tenant_id, route.model, document, candidates, output_limit, stream=stream)
        max_age = None if control is None else control.max_age
        return await self.cache.look_up(key, mode, policy, max_age, deadline.left())


def helps(error: ArgosyError | None) -> bool:
    """Whether a stale answer may be given instead of this error."""
    return error is not None and error.kind in STALE_KINDS


def keep_if_complete(
    lease: Lease,
    payloads: Sequence[bytes] | None,
    usage_payload: bytes,
    usage: TokenUsage,
    price: Price,
    *,
    answers: int,
    stream: bool,
    warnings: Sequence[str] = (),
) -> None:
    """Keep an answer that ended without an error, if all of it is there and its tokens are known."""
    if payloads and not stream:
        payloads = (b"".join(payloads),)
    if not payloads or usage.known is None or not is_complete(payloads, answers):
        lease.release()
        return
    lease.keep(CachedAnswer(payloads, usage_payload, usage, price.key, price.version, created_ms=0, warnings=warnings))
