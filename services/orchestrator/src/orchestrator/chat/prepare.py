"""Prepare: everything that is decided, and the money set aside, before a provider is called."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest, Kind, Unavailable

from orchestrator.domain.candidates import chat_candidates, embedding_candidates
from orchestrator.domain.chat import Chat, RetrievalWish, read_chat
from orchestrator.domain.deadline import Deadline, deadline_of
from orchestrator.domain.errors import RequestTooLarge
from orchestrator.domain.plan import Candidate, EmbeddingPlan, Plan
from orchestrator.domain.policy import Policy
from orchestrator.domain.ports import Bodies, Reservation, Retrieval, Routes
from orchestrator.domain.prompt import Source, question_in, select, with_context
from orchestrator.domain.request import ChatRequest, EmbedRequest, check_request_id
from orchestrator.domain.reserve import Reserves
from orchestrator.domain.routes import Task

MOST_INPUTS = 2048
MOST_DIMENSIONS = 65_536

# While retrieval says one of these it is down, and not the request wrong or the budget spent.
_DOWN = frozenset({Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.INTERNAL, Kind.UPSTREAM})


class Prepared(NamedTuple):
    """A chat completion that is paid for and ready to run."""

    request: ChatRequest
    plan: Plan
    reservation: Reservation
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class PreparedEmbedding:
    """An embedding that is paid for and ready to run."""

    request: EmbedRequest
    plan: EmbeddingPlan
    reservation: Reservation


async def prepare(
    request: ChatRequest,
    *,
    routes: Routes,
    bodies: Bodies,
    retrieval: Retrieval,
    reserves: Reserves,
    clock: Clock,
    policy: Policy,
) -> Prepared:
    """Resolve the route, put context into the prompt, make each candidate's body ready, and set the dearest aside.

    What cannot be paid for is never started, and what has no price is never called: nothing costs anything before the
    reservation. Raises `InvalidRequest`, `ModelNotFound`, `RequestTooLarge`, `Unavailable`, `DeadlineExceeded`, and
    what retrieval and metering say.
    """
    check_request_id(request.request_id)
    deadline = deadline_of(request.time, policy, clock)
    route = routes.table().resolve(request.principal.tenant_id, request.model, Task.CHAT)
    most = max(candidate.max_output_tokens for candidate in route.candidates)
    chat = read_chat(bodies.parse(request.body), most)
    sources: tuple[Source, ...] = ()
    if chat.retrieval is not None:
        sources = await _context(chat, chat.retrieval, retrieval=retrieval, deadline=deadline, policy=policy)
        chat = chat._replace(document=with_context(chat.document, sources))
    candidates = chat_candidates(chat, route.candidates, stream=request.stream, bodies=bodies)
    _check_size(candidates, policy)
    reservation = await reserves.reserve(request, candidates, deadline)
    patience = policy.first_byte if request.stream else policy.whole_answer
    plan = Plan(request.request_id, candidates, request.stream, deadline.left(), patience, policy.idle)
    return Prepared(request, plan, reservation, sources)


async def prepare_embedding(
    request: EmbedRequest, *, routes: Routes, reserves: Reserves, clock: Clock, policy: Policy
) -> PreparedEmbedding:
    """Resolve the route, bound what the inputs can cost, and set it aside. Raises as `prepare`."""
    check_request_id(request.request_id)
    _check_inputs(request, policy)
    deadline = deadline_of(request.time, policy, clock)
    route = routes.table().resolve(request.principal.tenant_id, request.model, Task.EMBEDDING)
    candidates = embedding_candidates(request.inputs, route.candidates)
    reservation = await reserves.reserve(request, candidates, deadline)
    plan = EmbeddingPlan(request.request_id, candidates, request.inputs, request.dimensions, deadline.left())
    return PreparedEmbedding(request, plan, reservation)


async def _context(
    chat: Chat, wish: RetrievalWish, *, retrieval: Retrieval, deadline: Deadline, policy: Policy
) -> tuple[Source, ...]:
    query = wish.query or question_in(chat.document)
    limit = wish.limit or policy.passages
    time = deadline.remaining(policy.search)
    try:
        passages = await retrieval.search(wish.vector_store_ids, query, limit, time)
    except ArgosyError as error:
        if error.kind not in _DOWN:
            raise
        if wish.optional:
            return ()
        raise Unavailable(f"no context could be retrieved: {error.message}") from error
    return select(passages, policy.context_bytes)


def _check_size(candidates: Sequence[Candidate], policy: Policy) -> None:
    size = sum(len(candidate.body) for candidate in candidates)
    if size > policy.plan_bytes:
        raise RequestTooLarge(f"the request takes {size} bytes for its candidates, at most {policy.plan_bytes} fit")


def _check_inputs(request: EmbedRequest, policy: Policy) -> None:
    if not 1 <= len(request.inputs) <= MOST_INPUTS:
        raise InvalidRequest(f"input is not a list of 1 to {MOST_INPUTS} texts", param="input")
    if not all(request.inputs):
        raise InvalidRequest("input has an empty text", param="input")
    if not 0 <= request.dimensions <= MOST_DIMENSIONS:
        raise InvalidRequest(f"dimensions is not a whole number from 1 to {MOST_DIMENSIONS}", param="dimensions")
    size = sum(len(text.encode()) for text in request.inputs)
    if size > policy.embedding_bytes:
        raise RequestTooLarge(f"the inputs have {size} bytes together, at most {policy.embedding_bytes}", param="input")
