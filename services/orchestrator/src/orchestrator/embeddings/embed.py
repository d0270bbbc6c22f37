"""Turning texts into vectors: the same prepare, infer, finalize, all at once."""

import asyncio
from dataclasses import dataclass

from chassis.clock import Clock
from chassis.errors import ArgosyError, Internal

from orchestrator.domain.finalize import Bill, finalize
from orchestrator.domain.infer import embed, lost
from orchestrator.domain.policy import Policy
from orchestrator.domain.ports import Routes, Worker
from orchestrator.domain.prepare import PreparedEmbedding, prepare_embedding
from orchestrator.domain.record import Recorder
from orchestrator.domain.request import EmbedRequest
from orchestrator.domain.reserve import Reserves
from orchestrator.domain.tasks import Tasks


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, one per input, and their bill."""

    vectors: tuple[bytes, ...]
    bill: Bill


class Embeddings:
    """Turns texts into vectors; priced and settled as any inference."""

    def __init__(
        self,
        *,
        routes: Routes,
        reserves: Reserves,
        worker: Worker,
        recorder: Recorder,
        tasks: Tasks,
        clock: Clock,
        policy: Policy,
    ) -> None:
        self._routes = routes
        self._reserves = reserves
        self._worker = worker
        self._recorder = recorder
        self._tasks = tasks
        self._clock = clock
        self._policy = policy

    async def embed(self, request: EmbedRequest) -> Embedded:
        """Embed the inputs. A caller who goes away leaves a task behind that ends the work and records it."""
        with self._tasks.admitted():
            prepared = await prepare_embedding(
                request, routes=self._routes, reserves=self._reserves, clock=self._clock, policy=self._policy
            )
            run = self._tasks.start(self._run(prepared))
        try:
            embedded, error = await asyncio.shield(run)
        finally:
            self._tasks.leave(run)
        if error is not None:
            raise error
        return embedded

    async def _run(self, prepared: PreparedEmbedding) -> tuple[Embedded, ArgosyError | None]:
        request, reservation = prepared.request, prepared.reservation
        try:
            made = await embed(prepared.plan, worker=self._worker)
        except Exception:
            await finalize(request, reservation, lost(Internal("internal error")).finished, recorder=self._recorder)
            raise
        bill = await finalize(request, reservation, made.ending.finished, recorder=self._recorder)
        return Embedded(made.vectors, bill), made.ending.error
