"""The cache as chat completions use it: asked before a plan runs, given the answer after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import orjson
from chassis.errors import ArgosyError, Kind
from values.money import Price
from values.usage import CacheOutcome, TokenUsage

from orchestrator.limits import Deadline
from orchestrator.response_cache.charge import CacheCharges
from orchestrator.response_cache.complete import is_complete
from orchestrator.response_cache.flights import SharedAnswer
from orchestrator.response_cache.key import cache_key
from orchestrator.response_cache.lease import Lease
from orchestrator.response_cache.look_up import Lookup, ResponseCache
from orchestrator.response_cache.model import CacheControl, CachedAnswer, CacheMode, CachePolicy
from orchestrator.response_cache.pace import Pace
from orchestrator.response_cache.policy import CachePolicyOf, mode_of
from orchestrator.response_cache.semantic import Prompt, SemanticCache, read_prompt
from orchestrator.routing.model import Route, RouteCandidate

STALE_KINDS = frozenset({Kind.UPSTREAM, Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.THROTTLED, Kind.INTERNAL})
"""Errors after which a stale answer helps: the providers failed, not the request."""
RAW_BYTES_PER_ENTRY_BYTE = 2
"""An answer is recorded up to this multiple of what may be kept: it may be compressed."""


class CacheUse(NamedTuple):
    """How one request uses the cache."""

    policy: CachePolicy
    mode: CacheMode
    max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class ChatCache:
    """The cache, the policies of routes, and what hits cost."""

    cache: ResponseCache
    policy_of: CachePolicyOf
    charges: CacheCharges
    semantic: SemanticCache | None = None
    pace: Pace = field(default_factory=Pace)

    def use(self, route: Route, control: CacheControl | None) -> CacheUse | None:
        """Return how a request uses the cache; None for one that does not."""
        policy = self.policy_of(route)
        mode = mode_of(policy, control)
        if mode is CacheMode.OFF:
            return None
        return CacheUse(policy, mode, None if control is None else control.max_age)

    async def look_up(
        self,
        tenant_id: str,
        route: Route,
        candidates: Sequence[RouteCandidate],
        document: Mapping[str, object],
        *,
        output_limit: int | None,
        use: CacheUse,
        deadline: Deadline,
        stream: bool,
    ) -> Lookup | None:
        """Ask the cache; None for a request that cannot use it. It never fails.

        `candidates` are those that may answer this request.
        """
        policy, mode, max_age = use
        try:
            key = cache_key(tenant_id, route.model, document, candidates, output_limit, stream=stream)
        except orjson.JSONEncodeError:
            return None  # its nesting is at the limit of what can be rendered
        lookup = await self.cache.look_up(key, mode, policy, max_age, deadline.left())
        if lookup.hit is not None or self.semantic is None or policy.semantic_threshold is None:
            return lookup
        try:
            prompt = read_prompt(tenant_id, route.model, document, candidates, output_limit, stream=stream)
            if prompt is None:
                return lookup
            threshold = policy.semantic_threshold if mode.reads else None
            return await self._by_meaning(
                self.semantic, lookup, policy, prompt, threshold=threshold, max_age=max_age, deadline=deadline
            )
        except BaseException:
            if lookup.lease is not None:
                lookup.lease.release()
            raise

    async def _by_meaning(
        self,
        semantic: SemanticCache,
        lookup: Lookup,
        policy: CachePolicy,
        prompt: Prompt,
        *,
        threshold: float | None,
        max_age: timedelta | None,
        deadline: Deadline,
    ) -> Lookup:
        """Return the answer to a prompt of the same meaning; else let the answer that is made be found by its prompt.

        Without a `threshold` it is not looked for.
        """
        key, lease = lookup.key, lookup.lease
        found = [] if threshold is None else await semantic.find(prompt, threshold, deadline.left())
        for digest in found:
            hit = await self.cache.read(key._replace(digest=digest), policy, max_age)
            if hit is not None:
                if lease is not None:
                    lease.share(SharedAnswer(hit.answer, hit.age_seconds * 1000, CacheOutcome.SEMANTIC))
                return lookup._replace(hit=hit._replace(outcome=CacheOutcome.SEMANTIC), lease=None)
        if lease is not None:
            lease.on_kept = lambda answer: semantic.keep(prompt, key.digest, key.model, answer, policy.ttl)
        return lookup


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
    """Keep an answer that ended without an error, if all of it is there and its tokens are known.

    Else no request waits for another: it would not be kept either.
    """
    if payloads and not stream:
        payloads = (b"".join(payloads),)
    if not payloads or usage.known is None or not is_complete(payloads, answers):
        lease.refuse()
        return
    lease.keep(CachedAnswer(payloads, usage_payload, usage, price.key, price.version, created_ms=0, warnings=warnings))
