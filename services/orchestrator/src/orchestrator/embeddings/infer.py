"""Runs the plan of an answer that comes whole: candidates in order, each provider call recorded before it is made."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

from chassis.errors import ArgosyError, DeadlineExceeded, Internal, Kind, Unavailable

from orchestrator.errors import is_refusal
from orchestrator.limits import Deadline
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.workers.model import EmbeddingPlan, EmbeddingResult, Finished, RerankPlan, RerankResult
from orchestrator.workers.ports import WorkerClient

PlanT = TypeVar("PlanT", EmbeddingPlan, RerankPlan)
ResultT = TypeVar("ResultT", EmbeddingResult, RerankResult)


class Embedded(NamedTuple):
    """Vectors, and the end of the plan."""

    vectors: tuple[bytes, ...]
    finished: Finished


async def infer_embedding(
    plan: EmbeddingPlan, attempts: RequestAttempts, deadline: Deadline, *, worker: WorkerClient
) -> Embedded:
    """Run `plan`, a worker call per attempt. Errors are part of the result, never raised."""
    result, finished = await infer_single_call(plan, attempts, deadline, worker=worker, call=worker.embed)
    return Embedded(result.vectors if result else (), finished)


async def infer_single_call(
    plan: PlanT,
    attempts: RequestAttempts,
    deadline: Deadline,
    *,
    worker: WorkerClient,
    call: Callable[[PlanT], Awaitable[ResultT]],
) -> tuple[ResultT | None, Finished]:
    """Run `plan` by `call`, one per attempt. Errors are part of the result, never raised.

    A candidate whose connection dropped is tried once more. When metering does not record a further attempt, it is not
    made, and the error is that of the attempt before.
    """
    try:
        await worker.wait_ready(plan.deadline)
    except (Unavailable, DeadlineExceeded) as error:
        return None, Finished((), error)
    number, index, tries = 1, 0, 1
    while True:
        one = replace(plan, candidates=(plan.candidates[index],), deadline=deadline.left())
        try:
            result = await call(one)
            _end(result.finished, attempts, number, index)
        except ArgosyError as raised:
            # An answer that is too large for its message was paid for; the request itself is bounded before.
            refused = is_refusal(raised) and raised.kind is not Kind.TOO_LARGE
            made = attempts.refused() if refused else attempts.unknown_usage()
            return None, Finished(made, raised)
        following = _next(result, index, tries, len(plan.candidates)) if deadline.left() else None
        if following is None:
            return result, Finished(attempts.unknown_usage(), result.finished.error)
        number, tries, index = number + 1, tries + 1 if following == index else 1, following
        attempts.announce(number, index)
        try:
            await attempts.start()
        except ArgosyError as refusal:
            exhausted = refusal.reason == "INSUFFICIENT_QUOTA"
            return None, Finished(attempts.unknown_usage(), refusal if exhausted else result.finished.error)
        attempts.allow()


def _end(finished: Finished, attempts: RequestAttempts, number: int, index: int) -> None:
    """Note the attempt of `finished` under its number and candidate in the request."""
    if len(finished.attempts) != 1 or finished.attempts[0].candidate != 0:
        raise Internal("the worker did not report one attempt of the only candidate")
    attempts.end((finished.attempts[0]._replace(number=number, candidate=index),))


def _next(result: EmbeddingResult | RerankResult, index: int, tries: int, candidates: int) -> int | None:
    """Return the candidate to try after `result`; None when it is the answer, or none is left."""
    if result.finished.error is None or not result.fallback:
        return None
    following = index if result.retry_same and tries == 1 else index + 1
    return following if following < candidates else None
