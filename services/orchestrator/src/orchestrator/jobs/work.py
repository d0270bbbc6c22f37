"""What jobs do: chat completions and embeddings, checked, prepared and answered as when a client waits for them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import NamedTuple

import orjson
from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.limits import MAX_MODEL_NAME_CHARACTERS

from orchestrator.chat.model import ChatRequest
from orchestrator.chat.prepare import check, prepare
from orchestrator.context.ports import RetrievalClient
from orchestrator.embeddings.body import parse_embedding, render_embeddings
from orchestrator.embeddings.prepare import EmbedRequest, check_embedding, prepare_embedding
from orchestrator.flags.model import Feature
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.flags.switches import require_feature
from orchestrator.jobs.model import Endpoint
from orchestrator.jobs.policy import JobPolicy
from orchestrator.limits import Limits
from orchestrator.reservations.attempts import AttemptsRecord
from orchestrator.reservations.model import Reservation
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import UnknownFields
from orchestrator.workers.model import EmbeddingPlan, Plan


class CheckedWork(NamedTuple):
    """A request that would be accepted, as far as money and context leave it open."""

    model: str
    cost_tokens: int
    warnings: tuple[str, ...] = ()


class PreparedWork(NamedTuple):
    """A plan for a worker, and the money held for it."""

    plan: Plan | EmbeddingPlan
    reservation: Reservation

    @property
    def record(self) -> AttemptsRecord:
        return AttemptsRecord(self.reservation, tuple(one.bound for one in self.plan.candidates))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWork:
    """Checks and prepares requests of both endpoints."""

    routes: RouteCache
    retrieval: RetrievalClient
    reservations: Reservations
    clock: Clock
    limits: Limits
    unknown_fields: UnknownFields = UnknownFields.DROP
    batch_discount_percent: int = 0
    flags: FlagCache = NO_FLAGS

    @classmethod
    def for_jobs(
        cls,
        policy: JobPolicy,
        *,
        routes: RouteCache,
        retrieval: RetrievalClient,
        reservations: Reservations,
        clock: Clock,
        limits: Limits,
        unknown_fields: UnknownFields,
        flags: FlagCache = NO_FLAGS,
    ) -> "JobWork":
        """Make it with the timeouts of jobs: no client waits."""
        limits = replace(
            limits,
            default_deadline=policy.run_timeout,
            max_deadline=policy.run_timeout,
            non_streamed_timeout=policy.answer_timeout,
        )
        return cls(
            routes=routes,
            retrieval=retrieval,
            reservations=replace(reservations, limits=limits),
            clock=clock,
            limits=limits,
            unknown_fields=unknown_fields,
            batch_discount_percent=policy.batch_discount_percent,
            flags=flags,
        )

    async def check(self, principal: Principal, request_id: str, endpoint: Endpoint, body: bytes) -> CheckedWork:
        """Check a request without a peer. Raises the errors that the synchronous door raises before a reservation."""
        require_feature(self.flags.snapshot(), Feature.JOBS, principal, {})
        if endpoint is Endpoint.EMBEDDINGS:
            embedding = _embed_request(principal, request_id, body)
            candidates = check_embedding(embedding, routes=self.routes, limits=self.limits, flags=self.flags)
            return CheckedWork(embedding.model, max(candidate.bound.input_tokens for candidate in candidates))
        chat = _chat_request(principal, request_id, body)
        checked = await check(
            chat,
            routes=self.routes,
            limits=self.limits,
            unknown_fields=self.unknown_fields,
            flags=self.flags,
        )
        return CheckedWork(chat.model, *checked)

    async def prepare(
        self,
        principal: Principal,
        request_id: str,
        endpoint: Endpoint,
        body: bytes,
        timeout: timedelta,
        *,
        of_batch: bool = False,
    ) -> PreparedWork:
        """Prepare a run as the current caller, and reserve its cost. Raises what the synchronous door raises."""
        reservations = self.reservations
        if of_batch and self.batch_discount_percent:
            reservations = replace(reservations, discount_percent=self.batch_discount_percent)
        if endpoint is Endpoint.EMBEDDINGS:
            embedding = await prepare_embedding(
                _embed_request(principal, request_id, body, timeout),
                routes=self.routes,
                reservations=reservations,
                clock=self.clock,
                limits=self.limits,
                flags=self.flags,
            )
            return PreparedWork(embedding.plan, embedding.reservation)
        chat = await prepare(
            _chat_request(principal, request_id, body, timeout),
            routes=self.routes,
            retrieval=self.retrieval,
            reservations=reservations,
            clock=self.clock,
            limits=self.limits,
            unknown_fields=self.unknown_fields,
            flags=self.flags,
        )
        return PreparedWork(chat.plan, chat.reservation)


async def embeddings_answer(body: bytes, vectors: Sequence[bytes], input_tokens: int, max_bytes: int) -> bytes | None:
    """Render vectors as the answer to a request's body; None when it has more than `max_bytes`."""
    return await render_embeddings(parse_embedding(body), vectors, input_tokens, max_bytes)


def _embed_request(
    principal: Principal, request_id: str, body: bytes, timeout: timedelta | None = None
) -> EmbedRequest:
    parsed = parse_embedding(body)
    model = _check_model(parsed.model)
    return EmbedRequest(request_id, principal, model, parsed.inputs, parsed.dimensions, timeout, refuse_truncation=True)


def _chat_request(principal: Principal, request_id: str, body: bytes, timeout: timedelta | None = None) -> ChatRequest:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequest("the body is not a JSON object")
    model = _check_model(document.get("model"))
    # A client that asks for a stream reads the deltas of the job.
    return ChatRequest(request_id, principal, model, body, document.get("stream") is True, timeout)


def _check_model(model: object) -> str:
    if not isinstance(model, str) or not 1 <= len(model) <= MAX_MODEL_NAME_CHARACTERS or "\0" in model:
        raise InvalidRequest(f"model is not a name of 1 to {MAX_MODEL_NAME_CHARACTERS} characters", param="model")
    return model
