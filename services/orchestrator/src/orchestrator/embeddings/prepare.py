"""Prepare: everything that is decided, and reserved, before an embedding model is called."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.embeddings import MAX_TOKEN_ID, EmbeddingInput, input_bytes, max_embedding_tokens
from values.limits import MAX_DIMENSIONS, MAX_EMBEDDING_INPUTS
from values.usage import AbsentClasses

from orchestrator.chat.model import RequestTooLarge
from orchestrator.chat.prepare import check_request_id
from orchestrator.flags.model import Feature
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.flags.switches import require_model, usable_candidates
from orchestrator.limits import Deadline, Limits, deadline_of
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.eligibility import RequestFacts
from orchestrator.routing.model import RouteCandidate, Task
from orchestrator.routing.order import choose
from orchestrator.workers.model import Candidate, EmbeddingPlan

TEXT_ONLY = AbsentClasses(cache_writes=True, audio_input=True, audio_output=True)


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed, or their token ids. Without a `timeout` it gets the default deadline.

    `dimensions` 0 is the model's own.
    """

    request_id: str
    principal: Principal
    model: str
    inputs: tuple[EmbeddingInput, ...]
    dimensions: int = 0
    timeout: timedelta | None = None
    refuse_truncation: bool = False
    """Whether an input that is longer than the model reads is refused. Else the model reads the beginning of it."""
    flags: dict[str, str] = field(default_factory=dict)
    """The feature flags that were evaluated for it: key to variant. The check fills it."""


class PreparedEmbedding(NamedTuple):
    """An embedding with a reservation, ready to run."""

    plan: EmbeddingPlan
    reservation: Reservation
    deadline: Deadline


def check_embedding(
    request: EmbedRequest, *, routes: RouteCache, limits: Limits, flags: FlagCache = NO_FLAGS
) -> tuple[Candidate, ...]:
    """Check the request, and bound the tokens of each candidate of its route.

    Raises `InvalidRequest`, `RequestTooLarge`, `ModelNotFound`, `FeatureDisabled`, `Unavailable`.
    """
    check_request_id(request.request_id)
    _check_inputs(request, limits)
    route = routes.table().resolve(request.principal.tenant_id, request.model, Task.EMBEDDING)
    switches = flags.snapshot()
    require_model(switches, Feature.EMBEDDINGS, request.model, request.principal, request.flags)
    usable = usable_candidates(switches, route.candidates, request.model, request.principal, request.flags)
    facts = RequestFacts(request.principal.tenant_id, request.principal.plan)
    route = route if len(usable) == len(route.candidates) else replace(route, candidates=usable)
    chosen = choose(route, facts, request.request_id, routes.measures)
    return embedding_candidates(request.inputs, chosen.candidates)


async def prepare_embedding(
    request: EmbedRequest,
    *,
    routes: RouteCache,
    reservations: Reservations,
    clock: Clock,
    limits: Limits,
    flags: FlagCache = NO_FLAGS,
) -> PreparedEmbedding:
    """Choose the route, and reserve the cost of its most expensive candidate.

    Raises as `check_embedding`, and errors of metering.
    """
    deadline = deadline_of(request.timeout, limits, clock)
    candidates = check_embedding(request, routes=routes, limits=limits, flags=flags)
    bounds = [candidate.bound for candidate in candidates]
    reservation = await reservations.reserve(request.principal, request.request_id, bounds, deadline)
    plan = EmbeddingPlan(
        request.request_id,
        candidates,
        request.inputs,
        request.dimensions,
        deadline.left(),
        refuse_truncation=request.refuse_truncation,
    )
    return PreparedEmbedding(plan, reservation, deadline)


def embedding_candidates(inputs: Sequence[EmbeddingInput], routed: Sequence[RouteCandidate]) -> tuple[Candidate, ...]:
    """Bound the tokens of each candidate. It writes none."""
    max_tokens = max_embedding_tokens(inputs)
    return tuple(
        Candidate(candidate.upstream, candidate.model, TokenBound(candidate.price_key, max_tokens, 0, TEXT_ONLY))
        for candidate in routed
    )


def _check_inputs(request: EmbedRequest, limits: Limits) -> None:
    if not 1 <= len(request.inputs) <= MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(
            f"input is not a list of 1 to {MAX_EMBEDDING_INPUTS} texts or arrays of token ids", param="input"
        )
    if not all(request.inputs):
        raise InvalidRequest("input has an empty text or array", param="input")
    if not 0 <= request.dimensions <= MAX_DIMENSIONS:
        raise InvalidRequest(f"dimensions is not a whole number from 1 to {MAX_DIMENSIONS}", param="dimensions")
    if any(not isinstance(one, str) and not (min(one) >= 0 and max(one) <= MAX_TOKEN_ID) for one in request.inputs):
        raise InvalidRequest(f"input has a token id that is not from 0 to {MAX_TOKEN_ID}", param="input")
    size, max_bytes = input_bytes(request.inputs), limits.max_embedding_bytes
    if size > max_bytes:
        raise RequestTooLarge(f"the inputs have {size} bytes together, at most {max_bytes}", param="input")
