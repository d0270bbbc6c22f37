"""Checks a route as a whole, before it is put in force."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from chassis.errors import InvalidRequest

from orchestrator.routing.model import (
    ALL_TENANTS,
    MAX_CANDIDATES,
    FallbackCycle,
    RouteCandidate,
    RouteEntry,
    Task,
    UnknownUpstream,
    UnpricedCandidate,
)
from orchestrator.routing.policy import RoutePolicy, Strategy
from orchestrator.workers.model import CandidateRole

MAX_CACHE_SECONDS = 30 * 86_400
"""As of the settings of the cache."""


def check_route(entry: RouteEntry, *, priced: Collection[str] | None, upstreams: Collection[str] | None) -> None:
    """Raise for a route that could not work.

    `priced` are the price keys in force, `upstreams` the names of registered ones. None when they are not known here:
    the command line has no connection to metering, and upstreams may be configured at the workers alone.
    """
    candidates = entry.candidates
    primary = [one for one in candidates if one.role is CandidateRole.PRIMARY]
    if not primary and (entry.tenant_id == ALL_TENANTS or candidates):
        raise InvalidRequest(
            "The route has no candidates. Only a tenant's own route may be empty, which hides the model from it.",
            param="candidates",
        )
    if len(candidates) > MAX_CANDIDATES:
        raise InvalidRequest(f"A route has at most {MAX_CANDIDATES} candidates with its fallbacks.", param="candidates")
    _refuse_what_nothing_honours(entry.policy)
    _check_fallbacks(entry, primary)
    _check_weights(entry, primary)
    _check_sizing(entry, primary)
    _check_cache(entry)
    if entry.task is not Task.CHAT and entry.policy.strategy is Strategy.FASTEST:
        raise InvalidRequest("The strategy fastest is for chat: other calls are not timed.", param="strategy")
    for one in candidates:
        if upstreams is not None and one.upstream not in upstreams:
            raise UnknownUpstream(f"{one.price_key}: there is no upstream {one.upstream!r}.", param="candidates")
        if priced is not None and one.price_key not in priced:
            raise UnpricedCandidate(
                f"{one.price_key} has no price. Set it first: POST /admin/v1/prices.", param="candidates"
            )


def _refuse_what_nothing_honours(policy: RoutePolicy) -> None:
    """Fields that documents have already, for versions to come."""
    if policy.retry.max_attempts is not None:
        raise InvalidRequest(
            "retry.max_attempts cannot be set: this version tries each candidate once.", param="retry.max_attempts"
        )


def _check_cache(entry: RouteEntry) -> None:
    cache = entry.policy.cache
    if cache.disabled and cache.exact:
        raise InvalidRequest(
            "cache.disabled turns the cache off, and cache.exact turns it on: choose one.", param="cache.disabled"
        )
    for name in ("ttl_seconds", "stale_if_error_seconds"):
        if getattr(cache, name) > MAX_CACHE_SECONDS:
            raise InvalidRequest(f"cache.{name} is at most {MAX_CACHE_SECONDS}.", param=f"cache.{name}")
    if entry.task is not Task.CHAT and cache.exact:
        raise InvalidRequest("cache.exact is for chat: vectors and scores are not cached.", param="cache.exact")
    if cache.semantic and not cache.exact:
        raise InvalidRequest(
            "cache.semantic needs cache.exact: it finds answers that the exact cache keeps.", param="cache.semantic"
        )
    if not cache.exact and cache.stale_if_error_seconds:
        raise InvalidRequest(
            "cache.stale_if_error_seconds needs cache.exact: without it no answer is kept.",
            param="cache.stale_if_error_seconds",
        )


def _check_fallbacks(entry: RouteEntry, primary: Sequence[RouteCandidate]) -> None:
    if entry.task is not Task.CHAT and len(primary) < len(entry.candidates):
        raise InvalidRequest(
            "Fallbacks for context overflow and content policy are for chat: no other task has them.", param="fallbacks"
        )
    listed: set[tuple[str, str]] = set()
    keys = {one.price_key for one in primary}
    for one in entry.candidates:
        if (one.role, one.price_key) in listed:
            raise InvalidRequest(f"{one.price_key} is listed twice.", param="candidates")
        listed.add((one.role, one.price_key))
        # What has refused a request refuses it again: the fallback would lead back to where it began.
        if one.role is not CandidateRole.PRIMARY and keys <= {one.price_key}:
            raise FallbackCycle(
                f"{one.price_key} is its own fallback for {one.role}.", param=f"fallbacks.{one.role.value}"
            )


def _check_weights(entry: RouteEntry, primary: Sequence[RouteCandidate]) -> None:
    if entry.policy.strategy is not Strategy.WEIGHTED:
        return
    sums: dict[int, int] = defaultdict(int)
    for one in primary:
        sums[one.priority] += one.weight
    for priority, total in sums.items():
        if total == 0:
            raise InvalidRequest(
                f"The weights of the candidates of priority {priority} sum to 0.", param="candidates.weight"
            )


def _check_sizing(entry: RouteEntry, primary: Sequence[RouteCandidate]) -> None:
    sizing = entry.policy.right_sizing
    if sizing is None:
        return
    keys = {one.price_key for one in primary}
    unknown = sorted(sizing.cheap - keys)
    if unknown:
        raise InvalidRequest(f"{unknown[0]} is no candidate of this route.", param="right_sizing.cheap")
    if keys <= sizing.cheap:
        raise InvalidRequest("Every candidate is cheap: none is left to escalate to.", param="right_sizing.cheap")


def diff_documents(before: object, after: object, path: str = "") -> list[dict[str, object]]:
    """Return what changed, by path; an absent value is null."""
    if before == after:
        return []
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change
            for name in sorted({*before, *after})
            for change in diff_documents(before.get(name), after.get(name), f"{path}.{name}" if path else name)
        ]
    if isinstance(before, list) and isinstance(after, list):
        length = max(len(before), len(after))
        pairs = (
            [*before, *[None] * (length - len(before))],
            [*after, *[None] * (length - len(after))],
        )
        return [
            change
            for index, (one, other) in enumerate(zip(*pairs, strict=True))
            for change in diff_documents(one, other, f"{path}[{index}]")
        ]
    return [{"path": path, "before": before, "after": after}]
