"""The RPC `Infer`: runs a plan and stops it when the caller asks to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from argosy.inference.v1 import inference_pb2
from chassis.errors import ArgosyError, InvalidRequest
from chassis.telemetry import logger

from inference_worker.concurrency.limit import ConcurrencyLimit
from inference_worker.plans.model import Attempt, Candidate, Draining, Event, Plan
from inference_worker.plans.protos import event_to_proto, finished_to_proto, proto_to_plan
from inference_worker.plans.run import PlanRun

log = logger(__name__)


class PlanMethods:
    def __init__(self, new_run: Callable[[Plan], PlanRun], limit: ConcurrencyLimit) -> None:
        self._new_run = new_run
        self._limit = limit
        self._runs: set[PlanRun] = set()

    async def infer(self, request_iterator: AsyncIterator[inference_pb2.InferRequest], context: Any) -> None:
        """Run a plan; a Stop ends it early, a cancelled call ends it without a record of its attempts.

        A provider call after the first is announced, and made only after a Proceed.

        It writes its responses: yielding them would add an async generator's step to each.
        """
        requests = aiter(request_iterator)
        plan = proto_to_plan(await _read_plan(requests))

        async def emit(event: Event) -> None:
            await context.write(event_to_proto(event))

        with self._limit:
            run = self._new_run(plan)
            request_reader = asyncio.create_task(_read_requests(requests, run))
            self._runs.add(run)
            try:
                finished = await run.run(emit)
                log_request("plan_finished", plan.candidates, finished.attempts, finished.error)
                await context.write(finished_to_proto(finished))
            finally:
                request_reader.cancel()
                self._runs.discard(run)

    def abort_all(self) -> None:
        """Stop all running plans, so that their usage is reported before the process exits."""
        for run in tuple(self._runs):
            run.stop(Draining("the worker is shutting down"))


async def _read_plan(requests: AsyncIterator[inference_pb2.InferRequest]) -> inference_pb2.Plan:
    request = await anext(requests, None)
    if request is None or request.WhichOneof("request") != "run":
        raise InvalidRequest("the first message must be Run", param="request")
    return request.run.plan


async def _read_requests(requests: AsyncIterator[inference_pb2.InferRequest], run: PlanRun) -> None:
    try:
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "stop":
                run.stop()
            elif kind == "proceed":
                run.proceed(request.proceed.attempt)
    except grpc.aio.BaseError:
        return  # writing the responses fails, too, and ends the run
    finally:
        run.end_requests()


def log_request(
    event: str, candidates: tuple[Candidate, ...], attempts: tuple[Attempt, ...], error: ArgosyError | None
) -> None:
    """Log the one line of a request: its last attempt."""
    last = attempts[-1]
    log.info(
        event,
        upstream=candidates[last.candidate].upstream,
        model=candidates[last.candidate].model,
        attempts=len(attempts),
        outcome=last.outcome,
        reason=error.reason if error is not None else None,
        usage=last.usage.source,
        input_tokens=last.usage.input_tokens,
        output_tokens=last.usage.output_tokens,
        seconds=round(last.duration.total_seconds(), 6),
    )
