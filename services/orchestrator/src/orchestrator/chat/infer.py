"""Infer: run the plan on a worker and pass on what the provider says, until its account is known."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from chassis.errors import ArgosyError, DeadlineExceeded, Internal, Unavailable

from orchestrator.domain.errors import failed_plan, is_refusal
from orchestrator.domain.outlet import Outlet
from orchestrator.domain.plan import EmbeddingPlan, Plan
from orchestrator.domain.ports import Answering, Finished, Inference, Worker
from orchestrator.domain.usage import UNKNOWN, Attempt


class Ending(NamedTuple):
    """The account of a plan that is over, and why it failed if it did."""

    finished: Finished
    error: ArgosyError | None = None


async def infer(plan: Plan, outlet: Outlet[Any], *, worker: Worker, hang_up: timedelta) -> Ending:
    """Run `plan`, and let its payloads out as they come. Always ends with an account: a failure is part of it.

    When the client goes away, the worker is told to stop, and gets `hang_up` to count what was used. When the worker
    goes away, one call is on the account whose usage nobody knows.
    """
    refusal = await _out_of_reach(worker, plan.deadline)
    if refusal is None and outlet.abandoned:
        # A provider that is called for nobody costs the house what it had begun.
        refusal = failed_plan("STOPPED", "the client went away before a worker had its request")
    if refusal is not None:
        return Ending(Finished(()), refusal)
    relay = _Relay(outlet)
    try:
        async with asyncio.timeout(None) as limit, worker.infer(plan) as inference:
            outlet.when_abandoned(lambda: _hang_up(inference, limit, hang_up))
            await relay.run(inference)
    except TimeoutError:
        failure: ArgosyError = DeadlineExceeded("the worker gave no account in time")
    except ArgosyError as error:
        failure = error
    if relay.finished is not None:
        # However the call ended after it.
        return _ended(relay.finished, len(plan.candidates))
    if is_refusal(failure) and not relay.begun:
        return Ending(Finished(()), failure)
    return lost(failure, relay.candidate)


@dataclass(frozen=True, slots=True)
class EmbeddingEnding:
    """The vectors of an embedding that is over, none when it failed, and its account."""

    vectors: tuple[bytes, ...]
    ending: Ending


async def embed(plan: EmbeddingPlan, *, worker: Worker) -> EmbeddingEnding:
    """Run an embedding. Always ends with an account, as `infer`."""
    if (refusal := await _out_of_reach(worker, plan.deadline)) is not None:
        return EmbeddingEnding((), Ending(Finished(()), refusal))
    try:
        embedding = await worker.embed(plan)
    except ArgosyError as error:
        return EmbeddingEnding((), Ending(Finished(()), error) if is_refusal(error) else lost(error))
    return EmbeddingEnding(embedding.vectors, _ended(embedding.finished, len(plan.candidates)))


def lost(error: ArgosyError, candidate: int = 0) -> Ending:
    """Return the ending of a plan whose account was lost: a provider may have been called, and may have answered."""
    return Ending(Finished((Attempt(1, candidate, UNKNOWN),)), error)


class _Relay:
    """Carries events from a worker to an outlet, and remembers how far it came."""

    def __init__(self, outlet: Outlet[Any]) -> None:
        self._outlet = outlet
        self.begun = False
        self.candidate = 0
        self.finished: Finished | None = None

    async def run(self, inference: Inference) -> None:
        while self.finished is None:
            event = await inference.read()
            if isinstance(event, Finished):
                self.finished = event
            elif isinstance(event, Answering):
                self.begun, self.candidate = True, event.candidate
            else:
                self.begun = True
                await self._outlet.put(event.payloads)


async def _out_of_reach(worker: Worker, time: timedelta) -> ArgosyError | None:
    """Why no worker can be given anything, if so: then nothing was begun, and nothing used."""
    if not time:
        return DeadlineExceeded("the request ran out of time before a worker had it")
    try:
        await worker.reach(time)
    except Unavailable as error:
        return error
    return None


def _hang_up(inference: Inference, limit: asyncio.Timeout, time: timedelta) -> None:
    limit.reschedule(asyncio.get_running_loop().time() + time.total_seconds())
    inference.stop()


def _ended(finished: Finished, candidates: int) -> Ending:
    if not all(0 <= attempt.candidate < candidates for attempt in finished.attempts):
        return lost(Internal("the worker's account names a candidate that the plan does not have"))
    failure = finished.failure
    return Ending(finished, None if failure is None else failed_plan(failure.reason, failure.message))
