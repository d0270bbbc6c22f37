"""Prepare: everything that is decided, and reserved, before a reranker is called."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.limits import MAX_RERANK_DOCUMENTS
from values.reranking import max_rerank_tokens, max_search_units, rerank_bytes
from values.usage import BillingUnit

from orchestrator.chat.model import RequestTooLarge
from orchestrator.chat.prepare import check_request_id
from orchestrator.embeddings.prepare import TEXT_ONLY
from orchestrator.flags.model import Feature
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.flags.switches import require_model, usable_candidates
from orchestrator.limits import Deadline, Limits, deadline_of
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import Task
from orchestrator.routing.order import choose
from orchestrator.workers.model import Candidate, RerankPlan


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to score for a query. Without a `timeout` it gets the default deadline."""

    request_id: str
    principal: Principal
    model: str
    query: str
    documents: tuple[str, ...]
    timeout: timedelta | None = None
    flags: dict[str, str] = field(default_factory=dict)
    """The feature flags that were evaluated for it: key to variant. The check fills it."""


class PreparedRerank(NamedTuple):
    """A request with a reservation, ready to run."""

    plan: RerankPlan
    reservation: Reservation
    deadline: Deadline


async def prepare_rerank(
    request: RerankRequest,
    *,
    routes: RouteCache,
    reservations: Reservations,
    clock: Clock,
    limits: Limits,
    flags: FlagCache = NO_FLAGS,
) -> PreparedRerank:
    """Choose the route, and reserve the cost of its most expensive candidate.

    Raises `InvalidRequest`, `RequestTooLarge`, `ModelNotFound`, `FeatureDisabled`, `Unavailable`, errors of metering.
    """
    deadline = deadline_of(request.timeout, limits, clock)
    candidates = check_rerank(request, routes=routes, limits=limits, flags=flags)
    bounds = [candidate.bound for candidate in candidates]
    reservation = await reservations.reserve(request.principal, request.request_id, bounds, deadline)
    plan = RerankPlan(request.request_id, candidates, request.query, request.documents, deadline.left())
    return PreparedRerank(plan, reservation, deadline)


def check_rerank(
    request: RerankRequest, *, routes: RouteCache, limits: Limits, flags: FlagCache
) -> tuple[Candidate, ...]:
    """Check the request, and bound the tokens or searches of each candidate of its route. It writes none."""
    check_request_id(request.request_id)
    _check_texts(request, limits)
    route = routes.table().resolve(request.principal.tenant_id, request.model, Task.RERANK)
    switches = flags.snapshot()
    require_model(switches, Feature.RERANK, request.model, request.principal, request.flags)
    usable = usable_candidates(switches, route.candidates, request.model, request.principal, request.flags)
    facts = RequestFacts(request.principal.tenant_id, request.principal.plan)
    chosen = choose(replace(route, candidates=usable), facts, request.request_id, routes.measures)
    most = {
        BillingUnit.TOKENS: max_rerank_tokens(request.query, request.documents),
        BillingUnit.SEARCH_UNITS: max_search_units(request.query, request.documents),
    }
    return tuple(
        Candidate(
            one.upstream,
            one.model,
            TokenBound(one.price_key, most[one.billing_unit], 0, TEXT_ONLY),
            billing_unit=one.billing_unit,
        )
        for one in chosen.candidates
    )


def _check_texts(request: RerankRequest, limits: Limits) -> None:
    if not request.query.strip():
        raise InvalidRequest("query is empty", param="query")
    if not 1 <= len(request.documents) <= MAX_RERANK_DOCUMENTS:
        raise InvalidRequest(f"documents are not 1 to {MAX_RERANK_DOCUMENTS} texts", param="documents")
    if not all(request.documents):
        raise InvalidRequest("documents has an empty text", param="documents")
    size, most = rerank_bytes(request.query, request.documents), limits.max_embedding_bytes
    if size > most:
        raise RequestTooLarge(f"the query and the documents have {size} bytes, at most {most}", param="documents")
