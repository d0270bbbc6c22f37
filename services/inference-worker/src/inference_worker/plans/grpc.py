"""The gRPC service: translates, admits, and listens for the caller's Stop."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from argosy.inference.v1 import inference_pb2 as pb
from argosy.inference.v1.inference_pb2_grpc import InferenceServiceServicer, add_InferenceServiceServicer_to_server
from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.grpc import Registration
from chassis.telemetry import logger

from inference_worker.api.admission import Admission
from inference_worker.api.convert import (
    from_proto_embedding,
    from_proto_plan,
    to_proto_embedded,
    to_proto_finished,
    to_proto_response,
)
from inference_worker.domain.account import Attempt
from inference_worker.domain.embed import EmbedRun
from inference_worker.domain.failures import Draining
from inference_worker.domain.infer import Chunk, PlanRun, Started
from inference_worker.domain.plan import Candidate
from inference_worker.domain.ports import Journal, Upstreams
from inference_worker.metrics import EMBED_SECONDS, EMBED_TEXTS

log = logger(__name__)


class InferenceServicer(InferenceServiceServicer):
    """Runs plans, at most `max_in_flight` at once."""

    def __init__(self, *, upstreams: Upstreams, journal: Journal, clock: Clock, max_in_flight: int) -> None:
        self._upstreams = upstreams
        self._journal = journal
        self._clock = clock
        self._admission = Admission(max_in_flight)
        self._runs: set[PlanRun] = set()

    # Writes its responses: yielding them would cost each message a hop more, though the stub knows of nothing else.
    async def Infer(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.InferRequest], context: Any
    ) -> None:
        """Run a plan; a Stop ends it early, a cancelled call ends it without an account."""
        requests = aiter(request_iterator)
        plan = from_proto_plan(await _first(requests))

        async def say(step: Started | Chunk) -> None:
            await context.write(to_proto_response(step))

        with self._admission:
            run = PlanRun(plan, upstreams=self._upstreams, clock=self._clock, journal=self._journal)
            listening = asyncio.create_task(_listen(requests, run))
            self._runs.add(run)
            try:
                finished = await run.run(say)
                _log("plan_finished", plan.candidates, finished.attempts, finished.failure)
                await context.write(to_proto_finished(finished))
            finally:
                listening.cancel()
                self._runs.discard(run)

    def hang_up(self) -> None:
        """End all running plans early, with their accounts: what was used must not be lost with the process."""
        for run in tuple(self._runs):
            run.stop(Draining("the worker is being stopped"))

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """Turn texts into vectors."""
        wanted = from_proto_embedding(request)
        with self._admission, EMBED_SECONDS.time():
            EMBED_TEXTS.inc(len(wanted.inputs))
            run = EmbedRun(wanted, upstreams=self._upstreams, clock=self._clock, journal=self._journal)
            embedded = await run.vectors()
        _log("embedding_finished", wanted.candidates, embedded.attempts, embedded.failure)
        return to_proto_embedded(embedded)


def registration(servicer: InferenceServicer) -> Registration:
    """Return what a `GrpcServer` needs to serve it."""
    return add_InferenceServiceServicer_to_server, servicer, "argosy.inference.v1.InferenceService"


async def _first(requests: AsyncIterator[pb.InferRequest]) -> pb.Plan:
    request = await anext(requests, None)
    if request is None or request.WhichOneof("request") != "run":
        raise InvalidRequest("the first wish must be Run", param="wish")
    return request.run.plan


async def _listen(requests: AsyncIterator[pb.InferRequest], run: PlanRun) -> None:
    try:
        async for request in requests:
            if request.WhichOneof("request") == "stop":
                run.stop()
    except grpc.aio.BaseError:
        return  # a broken call is noticed where it is answered


def _log(
    event: str, candidates: tuple[Candidate, ...], attempts: tuple[Attempt, ...], failure: Exception | None
) -> None:
    """One line per request: who answered at last, and what it came to."""
    last = attempts[-1]
    log.info(
        event,
        upstream=candidates[last.candidate].upstream,
        model=candidates[last.candidate].model,
        attempts=len(attempts),
        outcome=last.outcome,
        reason=getattr(failure, "reason", None),
        usage=last.usage.source,
        input_tokens=last.usage.input_tokens,
        output_tokens=last.usage.output_tokens,
        seconds=round(last.duration.total_seconds(), 6),
    )
