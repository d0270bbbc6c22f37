"""Scores documents: prepare, infer, finalize, without a stream."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ArgosyError
from values.usage import BillingUnit

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.finalize import PricedUsage, finalize
from orchestrator.embeddings.infer import infer_single_call
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.limits import Deadline, Limits
from orchestrator.rerank.prepare import RerankRequest, prepare_rerank
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.reservations.model import Reservation
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.usage.model import Attempt
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.model import RerankPlan
from orchestrator.workers.ports import WorkerClient


@dataclass(frozen=True, slots=True)
class PricedScores:
    """Scores from 0 to 1, one per document, with their usage and cost."""

    scores: tuple[float, ...]
    priced: PricedUsage
    search_units: int = 0
    """How many of the input tokens of the usage stand for searches."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reranks:
    """Scores documents for queries; priced and settled as chat completions are."""

    routes: RouteCache
    reservations: Reservations
    worker: WorkerClient
    recorder: UsageRecorder
    tasks: BackgroundTasks
    clock: Clock
    limits: Limits
    flags: FlagCache = NO_FLAGS

    async def rerank(self, request: RerankRequest) -> PricedScores:
        """Score the documents. When the caller disconnects, a background task finishes the work and records it."""
        key = (request.principal.tenant_id, request.request_id)
        with self.tasks.slot(key):
            prepared = await prepare_rerank(
                request,
                routes=self.routes,
                reservations=self.reservations,
                clock=self.clock,
                limits=self.limits,
                flags=self.flags,
            )
            run = self.tasks.start(self._run(request, *prepared), key)
        try:
            scores, error = await asyncio.shield(run)
        finally:
            self.tasks.detach(run)
        if error is not None:
            raise error
        return scores

    async def _run(
        self, request: RerankRequest, plan: RerankPlan, reservation: Reservation, deadline: Deadline
    ) -> tuple[PricedScores, ArgosyError | None]:
        principal, request_id, recorder = request.principal, request.request_id, self.recorder
        bounds = [candidate.bound for candidate in plan.candidates]
        attempts = RequestAttempts(self.reservations, principal, request_id, reservation, bounds)
        try:
            result, finished = await infer_single_call(
                plan, attempts, deadline, worker=self.worker, call=self.worker.rerank
            )
        except Exception:
            # A bug. A provider may have been called, so the running call is settled with unknown usage.
            await finalize(principal, request_id, attempts, attempts.unknown_usage(), recorder=recorder)
            raise
        priced = await finalize(principal, request_id, attempts, finished.attempts, recorder=recorder)
        if result is None:
            return PricedScores((), priced), finished.error
        searches = search_units_of(plan, finished.attempts)
        return PricedScores(result.scores, priced, searches, result.warnings), finished.error


def search_units_of(plan: RerankPlan, attempts: Iterable[Attempt]) -> int:
    """Return the searches of all calls of candidates that are billed by them."""
    by_searches = (one for one in attempts if plan.candidates[one.candidate].billing_unit is BillingUnit.SEARCH_UNITS)
    return sum(one.usage.input_tokens or 0 for one in by_searches)
