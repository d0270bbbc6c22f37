"""Embeds texts: prepare, infer, finalize, without a stream."""

import asyncio
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ArgosyError

from orchestrator.background_tasks import BackgroundTasks
from orchestrator.chat.finalize import PricedUsage, finalize
from orchestrator.embeddings.infer import infer_embedding
from orchestrator.embeddings.prepare import EmbedRequest, prepare_embedding
from orchestrator.flags.snapshot import NO_FLAGS, FlagCache
from orchestrator.limits import Deadline, Limits
from orchestrator.reservations.attempts import RequestAttempts
from orchestrator.reservations.model import Reservation
from orchestrator.reservations.reserve import Reservations
from orchestrator.routing.choose import RouteCache
from orchestrator.usage.record import UsageRecorder
from orchestrator.workers.model import EmbeddingPlan
from orchestrator.workers.ports import WorkerClient


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
    flags: FlagCache = NO_FLAGS

    async def embed(self, request: EmbedRequest) -> PricedEmbeddings:
        """Embed the inputs. When the caller disconnects, a background task finishes the work and records it."""
        key = (request.principal.tenant_id, request.request_id)
        with self.tasks.slot(key):
            prepared = await prepare_embedding(
                request,
                routes=self.routes,
                reservations=self.reservations,
                clock=self.clock,
                limits=self.limits,
                flags=self.flags,
            )
            run = self.tasks.start(self._run(request, *prepared), key)
        try:
            embeddings, error = await asyncio.shield(run)
        finally:
            self.tasks.detach(run)
        if error is not None:
            raise error
        return embeddings

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
