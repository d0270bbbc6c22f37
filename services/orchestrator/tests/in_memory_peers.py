"""The other services over gRPC, each backed by the fake of its client: what a fake answers, this sends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from argosy.common.v1.common_pb2 import Money
from argosy.inference.v1 import inference_pb2 as inference
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from argosy.metering.v1 import events_pb2 as metering_events
from argosy.metering.v1 import metering_pb2 as metering
from argosy.metering.v1.metering_pb2_grpc import MeteringServiceServicer, add_MeteringServiceServicer_to_server
from argosy.retrieval.v1 import retrieval_pb2 as retrieval
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceServicer, add_RetrievalServiceServicer_to_server
from chassis.errors import ArgosyError
from chassis.grpc.server import Registration
from chassis.tenancy import Principal, current_caller
from orchestrator.reservations.model import AttemptStart, HitRequest, TokenBound
from orchestrator.usage.model import Attempt, AttemptUsage
from orchestrator.workers.model import (
    AttemptStarting,
    CallOutcome,
    Candidate,
    Chunk,
    EmbeddingPlan,
    Event,
    Finished,
    Plan,
    RerankPlan,
    Started,
)
from values.attribute_protos import proto_to_filter
from values.money import NanoUsd, Price
from values.protos import (
    class_prices_to_proto,
    error_to_proto,
    exposure_cause_to_proto,
    proto_to_cache_outcome,
    proto_to_exposure_cause,
    proto_to_inputs,
    proto_to_usage,
    usage_to_proto,
)
from values.usage import AbsentClasses

from services.orchestrator.tests.fakes import FakeMeteringClient, FakeRetrievalClient, FakeWorkerClient

# The stubs declare every method abstract; these peers have the ones that the orchestrator calls.
_MeteringServicer: Any = MeteringServiceServicer
_RetrievalServicer: Any = RetrievalServiceServicer


class InMemoryMetering(_MeteringServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeMeteringClient) -> None:
        self.fake = fake

    @property
    def registration(self) -> Registration:
        return (add_MeteringServiceServicer_to_server, self, "argosy.metering.v1.MeteringService")

    async def Reserve(self, request: metering.ReserveRequest, context: Any) -> metering.ReserveResponse:
        bounds = [_proto_to_bound(bound) for bound in request.bounds]
        lease = request.lease.ToTimedelta()
        reserved = await self.fake.reserve(request.request_id, bounds, lease, timedelta(days=1))
        held = Money(nano_usd=reserved.held)
        response = metering.ReserveResponse(held=held, soft_limit_passed=reserved.soft_limit_passed)
        for price in reserved.prices:
            added = response.prices.add(price_key=price.key, version=price.version)
            added.input_per_million.nano_usd = price.input_per_million
            added.output_per_million.nano_usd = price.output_per_million
            if price.classes is not None:
                class_prices_to_proto(price.classes, added.class_prices)
        return response

    async def ReserveHits(self, request: metering.ReserveHitsRequest, context: Any) -> metering.ReserveHitsResponse:
        current_caller().principal.require("service")
        hits = []
        for hit in request.hits:
            answer = request.answers[hit.answer]
            principal = Principal(answer.tenant_id, hit.project_id, hit.key_id, hit.user_id)
            outcome = proto_to_cache_outcome(answer.outcome)
            assert outcome is not None
            usage = proto_to_usage(answer.usage)
            hits.append(
                HitRequest(principal, hit.request_id, answer.price_key, usage, answer.discount_percent, outcome)
            )
        results = await self.fake.reserve_hits(hits, request.lease.ToTimedelta(), timedelta(days=1))
        response = metering.ReserveHitsResponse(answers=[metering.HitPrice() for _ in request.answers])
        for place, result in enumerate(results):
            if isinstance(result, ArgosyError):
                error_to_proto(result, response.refused.add(hit=place).error)
                continue
            added = response.answers[request.hits[place].answer]
            added.soft_limit_passed = result.soft_limit_passed
            added.price.price_key, added.price.version = result.price.key, result.price.version
            added.price.input_per_million.nano_usd = result.price.input_per_million
            added.price.output_per_million.nano_usd = result.price.output_per_million
        return response

    async def StartAttempt(self, request: metering.StartAttemptRequest, context: Any) -> metering.StartAttemptResponse:
        ended = tuple(map(_proto_to_attempt_usage, request.ended))
        start = AttemptStart(request.request_id, request.attempt, request.bound, ended)
        held = await self.fake.start_attempt(current_caller().principal, start, timedelta(days=1))
        return metering.StartAttemptResponse(held=Money(nano_usd=held))


def _proto_to_bound(bound: metering.TokenBound) -> TokenBound:
    absent = AbsentClasses(bound.no_cache_writes, bound.no_audio_input, bound.no_audio_output)
    return TokenBound(bound.price_key, bound.input_tokens, bound.output_tokens, absent)


def _proto_to_attempt_usage(attempt: metering_events.AttemptUsage) -> AttemptUsage:
    price = Price(attempt.price_key, attempt.price_version, NanoUsd(0), NanoUsd(0))
    cause = proto_to_exposure_cause(attempt.exposure_cause)
    return AttemptUsage(attempt.attempt, price, proto_to_usage(attempt.usage), cause)


class InMemoryRetrieval(_RetrievalServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeRetrievalClient) -> None:
        self.fake = fake

    @property
    def registration(self) -> Registration:
        return (add_RetrievalServiceServicer_to_server, self, "argosy.retrieval.v1.RetrievalService")

    async def Search(self, request: retrieval.SearchRequest, context: Any) -> retrieval.SearchResponse:
        stores = list(request.vector_store_ids)
        filters = proto_to_filter(request.filter) if request.HasField("filter") else None
        passages = await self.fake.search(stores, request.query, request.limit, timedelta(days=1), filters)
        return retrieval.SearchResponse(
            conditions_applied=True,
            passages=[
                retrieval.Passage(
                    file_id=one.file_id, filename=one.filename, page=one.page, text=one.text, score=one.score
                )
                for one in passages
            ],
        )


_InferenceServicer: Any = InferenceServiceServicer


class InMemoryWorker(_InferenceServicer):  # type: ignore[misc]
    def __init__(self, fake: FakeWorkerClient) -> None:
        self.fake = fake

    @property
    def registration(self) -> Registration:
        return (add_InferenceServiceServicer_to_server, self, "argosy.inference.v1.InferenceService")

    async def Infer(self, requests: Any, context: Any) -> AsyncIterator[inference.InferResponse]:
        run = (await anext(requests)).run
        async with self.fake.infer(_proto_to_plan(run)) as call:
            requests_reader = asyncio.create_task(_pass_requests_on(requests, call))
            try:
                event: Event | None = None
                while not isinstance(event, Finished):
                    event = await call.read()
                    yield _event_to_proto(event)
            finally:
                requests_reader.cancel()

    async def EmbedInPieces(
        self, message: inference.EmbedInPiecesRequest, context: Any
    ) -> AsyncIterator[inference.EmbedInPiecesResponse]:
        request = message.request
        candidates = tuple(map(_proto_to_candidate, request.candidates))
        deadline = request.deadline.ToTimedelta()
        plan = EmbeddingPlan(request.request_id, candidates, proto_to_inputs(request), request.dimensions, deadline)
        vectors, finished, retry_same, fallback = await self.fake.embed(plan)
        first = inference.EmbedResponse(retry_same=retry_same, fallback=fallback)
        _fill_finished(finished, first)
        yield inference.EmbedInPiecesResponse(piece=first)
        for vector in vectors:
            piece = inference.EmbedResponse(vectors=[inference.Vector(float32=vector)])
            yield inference.EmbedInPiecesResponse(piece=piece)

    async def Rerank(self, message: inference.RerankRequest, context: Any) -> inference.RerankResponse:
        candidates = tuple(map(_proto_to_candidate, message.candidates))
        documents, deadline = tuple(message.documents), message.deadline.ToTimedelta()
        scores, finished, retry_same, fallback = await self.fake.rerank(
            RerankPlan(message.request_id, candidates, message.query, documents, deadline)
        )
        response = inference.RerankResponse(scores=scores, retry_same=retry_same, fallback=fallback)
        _fill_finished(finished, response)
        return response


async def _pass_requests_on(requests: Any, call: Any) -> None:
    async for request in requests:
        if request.HasField("stop"):
            call.stop()
        elif request.HasField("proceed"):
            await call.proceed(request.proceed.attempt)


def _proto_to_candidate(candidate: inference.Candidate) -> Candidate:
    return Candidate(candidate.upstream, candidate.model, TokenBound("", 0, 0), candidate.body)


def _proto_to_plan(run: inference.Run) -> Plan:
    plan = run.plan
    return Plan(
        run.request_id,
        tuple(map(_proto_to_candidate, plan.candidates)),
        plan.stream,
        plan.deadline.ToTimedelta(),
        plan.first_byte_timeout.ToTimedelta(),
        plan.idle_timeout.ToTimedelta(),
    )


def _event_to_proto(event: Event) -> inference.InferResponse:
    response = inference.InferResponse()
    if isinstance(event, Started):
        response.started.candidate = event.candidate
        response.started.SetInParent()
    elif isinstance(event, Chunk):
        response.chunk.payloads.extend(event.payloads)
    elif isinstance(event, AttemptStarting):
        starting = response.attempt_starting
        starting.number, starting.candidate = event.number, event.candidate
        for one in event.ended:
            _fill_attempt(one, starting.ended.add())
    else:
        response.finished.usage_payload = event.usage_payload
        _fill_finished(event, response.finished)
    return response


_OUTCOMES = {
    CallOutcome.SUCCEEDED: inference.ATTEMPT_OUTCOME_SUCCEEDED,
    CallOutcome.REJECTED: inference.ATTEMPT_OUTCOME_REJECTED,
    CallOutcome.REFUSED: inference.ATTEMPT_OUTCOME_REJECTED,
    CallOutcome.FAILED: inference.ATTEMPT_OUTCOME_TIMED_OUT,
    CallOutcome.OTHER: inference.ATTEMPT_OUTCOME_CANCELLED,
}


def _fill_attempt(attempt: Attempt, message: inference.Attempt) -> None:
    message.number, message.candidate = attempt.number, attempt.candidate
    message.exposure_cause = exposure_cause_to_proto(attempt.exposure_cause)
    usage_to_proto(attempt.usage, message.usage)


def _fill_finished(
    finished: Finished, message: inference.Finished | inference.EmbedResponse | inference.RerankResponse
) -> None:
    for index, one in enumerate(finished.attempts):
        added = message.attempts.add()
        _fill_attempt(one, added)
        for call in finished.calls[index : index + 1]:
            added.outcome = _OUTCOMES[call.outcome]
            added.request_refused = call.outcome is CallOutcome.REFUSED
            added.first_byte_after.FromTimedelta(timedelta(seconds=call.first_byte_seconds))
            added.duration.FromTimedelta(timedelta(seconds=call.seconds))
    if finished.error is not None:
        error_to_proto(finished.error, message.error)
