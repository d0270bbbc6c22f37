"""Embeds texts: prepare, infer, finalize, without a stream."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError, InvalidRequest
from chassis.tenancy import Principal
from values.limits import MAX_DIMENSIONS, MAX_EMBEDDING_INPUTS

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.finalize import PricedUsage, finalize
from orchestrator.chat.model import RequestTooLarge
from orchestrator.chat.prepare import check_request_id
from orchestrator.embeddings.infer import infer_embedding
from orchestrator.limits import Deadline, Limits, deadline_of
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.reservations.model import Reservation, TokenBound
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import RouteCandidate, Task
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.model import Candidate, EmbeddingPlan
from orchestrator.workers.ports import WorkerClient

SPECIAL_TOKENS_PER_INPUT = 8
"""The most tokens that an embedding model adds around each input."""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed. `dimensions` 0 is the model's own; without a `timeout` it gets the default deadline."""

    request_id: str
    principal: Principal
    model: str
    inputs: tuple[str, ...]
    dimensions: int = 0
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class PricedEmbeddings:
    """Vectors of little-endian 32-bit floats, one per input, with their usage and cost."""

    vectors: tuple[bytes, ...]
    priced: PricedUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Turns texts into vectors; priced and settled as chat completions are."""

    routes: RouteCache
    reservations: Reservations
    worker: WorkerClient
    recorder: UsageRecorder
    tasks: BackgroundTasks
    clock: Clock
    limits: Limits

    async def embed(self, request: EmbedRequest) -> PricedEmbeddings:
        """Embed the inputs. When the caller disconnects, a background task finishes the work and records it."""
        key = (request.principal.tenant_id, request.request_id)
        with self.tasks.slot(key):
            plan, reservation, deadline = await self._prepare(request)
            run = self.tasks.start(self._run(request, plan, reservation, deadline), key)
        try:
            embeddings, error = await asyncio.shield(run)
        finally:
            self.tasks.detach(run)
        if error is not None:
            raise error
        return embeddings

    async def _prepare(self, request: EmbedRequest) -> tuple[EmbeddingPlan, Reservation, Deadline]:
        check_request_id(request.request_id)
        _check_inputs(request, self.limits)
        deadline = deadline_of(request.timeout, self.limits, self.clock)
        route = self.routes.table().resolve(request.principal.tenant_id, request.model, Task.EMBEDDING)
        candidates = embedding_candidates(request.inputs, route.candidates)
        bounds = [candidate.bound for candidate in candidates]
        reservation = await self.reservations.reserve(request.principal, request.request_id, bounds, deadline)
        plan = EmbeddingPlan(request.request_id, candidates, request.inputs, request.dimensions, deadline.left())
        return plan, reservation, deadline

    async def _run(
        self, request: EmbedRequest, plan: EmbeddingPlan, reservation: Reservation, deadline: Deadline
    ) -> tuple[PricedEmbeddings, ArgosyError | None]:
        principal, request_id, recorder = request.principal, request.request_id, self.recorder
        bounds = [candidate.bound for candidate in plan.candidates]
        attempts = RequestAttempts(self.reservations, principal, request_id, reservation, bounds)
        try:
            vectors, finished = await infer_embedding(plan, attempts, deadline, worker=self.worker)
        except Exception:
            # A bug. A provider may have been called, so the running call is settled with unknown usage.
            await finalize(principal, request_id, attempts, attempts.unknown_usage(), recorder=recorder)
            raise
        priced = await finalize(principal, request_id, attempts, finished.attempts, recorder=recorder)
        return PricedEmbeddings(vectors, priced), finished.error


def embedding_candidates(inputs: Sequence[str], routed: Sequence[RouteCandidate]) -> tuple[Candidate, ...]:
    """Bound the tokens of each candidate: at most one per byte, and those around each input. It writes none."""
    max_tokens = sum(len(text.encode()) for text in inputs) + SPECIAL_TOKENS_PER_INPUT * len(inputs)
    return tuple(
        Candidate(candidate.upstream, candidate.model, TokenBound(candidate.price_key, max_tokens, 0))
        for candidate in routed
    )


def _check_inputs(request: EmbedRequest, limits: Limits) -> None:
    if not 1 <= len(request.inputs) <= MAX_EMBEDDING_INPUTS:
        raise InvalidRequest(f"input is not a list of 1 to {MAX_EMBEDDING_INPUTS} texts", param="input")
    if not all(request.inputs):
        raise InvalidRequest("input has an empty text", param="input")
    if not 0 <= request.dimensions <= MAX_DIMENSIONS:
        raise InvalidRequest(f"dimensions is not a whole number from 1 to {MAX_DIMENSIONS}", param="dimensions")
    size, max_bytes = sum(len(text.encode()) for text in request.inputs), limits.max_embedding_bytes
    if size > max_bytes:
        raise RequestTooLarge(f"the inputs have {size} bytes together, at most {max_bytes}", param="input")
