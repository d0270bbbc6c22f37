"""Dispatched jobs from Kafka."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial

from chassis.aio.loops import Backoff
from chassis.errors import ArgosyError
from chassis.kafka import Record, Undecodable
from chassis.tenancy import as_caller

from inference_worker.jobs.model import Dispatch, Lane, Offer, dispatch_topic
from inference_worker.jobs.orchestrator_client import GrpcOrchestrator
from inference_worker.jobs.ports import JobObserver
from inference_worker.jobs.protos import NotADispatch, proto_to_dispatch
from inference_worker.jobs.worker import ActiveRun, JobWorker

MAX_CLAIM_TRIES = 3

HANDICAPS: Mapping[Lane, timedelta] = {
    Lane.INTERACTIVE: timedelta(0),
    Lane.STANDARD: timedelta(seconds=2),
    Lane.BATCH: timedelta(seconds=8),
}
"""The interactive lane goes first, but the others do not starve: the orchestrator dispatched them in their turn. Well
below the 30 s after which a job that no worker has claimed is dispatched anew. The orchestrator offers jobs in the same
order."""


def lane_topics(pool: str) -> dict[str, timedelta]:
    """Return the topics of a pool, with the handicap of each."""
    return {dispatch_topic(pool, lane): handicap for lane, handicap in HANDICAPS.items()}


class DispatchConsumer:
    """Claims the job of a record, which only wakes the worker: the orchestrator says whether there is work."""

    def __init__(self, worker: JobWorker, orchestrator: GrpcOrchestrator, observer: JobObserver) -> None:
        self._worker = worker
        self._orchestrator = orchestrator
        self._observer = observer

    async def __call__(self, record: Record) -> Callable[[], Awaitable[None]] | None:
        """Return the run of the job, if it is claimed. Raises Undecodable."""
        lane = Lane(record.topic.rpartition(".")[2])
        try:
            dispatch = proto_to_dispatch(record.value, lane)
        except NotADispatch as error:
            raise Undecodable(str(error)) from error
        return await self._claim(dispatch)

    async def claim_offer(self, offer: Offer) -> Callable[[], Awaitable[None]] | None:
        """Return the run of an offered job, if it is claimed. What fails is tried again some times, then left."""
        backoff = Backoff(min_seconds=0.2, max_seconds=2.0)
        for _ in range(MAX_CLAIM_TRIES):
            try:
                return await self._claim(Dispatch(offer.ref, offer.lane, None))
            except ArgosyError as error:
                self._observer.retried(offer.ref, "claim", error)
            await asyncio.sleep(backoff.next())
        return None

    async def _claim(self, dispatch: Dispatch) -> Callable[[], Awaitable[None]] | None:
        active = await self._worker.claim(dispatch)
        return None if active is None else partial(self._execute, active)

    async def _execute(self, active: ActiveRun) -> None:
        """Run a job in its tenant's name: providers keep tenants apart by it, and log lines carry it."""
        with as_caller(self._orchestrator.caller(active.ref.tenant_id, active.job.request_id)):
            await self._worker.execute(active)
