"""Wires batches."""

from __future__ import annotations

from datetime import timedelta

from chassis.aio import Loop, periodic
from chassis.grpc import Channel, Registration
from chassis.lifecycle import Component

from orchestrator.batches.create import CreateBatch
from orchestrator.batches.grpc import BatchServicer, registration
from orchestrator.batches.postgres import PostgresBatchStore
from orchestrator.batches.requests import JobRequests
from orchestrator.batches.retrieval_client import GrpcFileStore
from orchestrator.batches.run import RunBatch
from orchestrator.batches.schedule import BatchRunner
from orchestrator.batches.settings import BatchesSection
from orchestrator.idempotency.postgres import PostgresIdempotencyKeys
from orchestrator.jobs.main import Jobs, Shared


class Batches:
    """The service of batches, and the loop that moves them on; a component."""

    name = "batches"

    def __init__(self, runner: BatchRunner, interval: timedelta, service: Registration) -> None:
        self.registration = service
        self._runner = runner
        self._loop: Component = Loop("batches", periodic(interval, runner.run_due, "batches"))

    async def start(self) -> None:
        await self._loop.start()

    async def stop(self) -> None:
        """Claim no more, and leave the steps that run to the next process."""
        await self._loop.stop()
        await self._runner.stop()


def build_batches(shared: Shared, retrieval: Channel, jobs: Jobs, section: BatchesSection) -> Batches:
    """Make the feature; its loop runs in every replica."""
    limits = section.batch_limits()
    store = PostgresBatchStore(shared.database, shared.on_written)
    files = GrpcFileStore(retrieval, shared.signer)
    requests = JobRequests(jobs.submissions, jobs.cancellations, jobs.reader)
    runner = BatchRunner(RunBatch(store, files, requests, limits.file), store)
    servicer = BatchServicer(
        CreateBatch(store, files, limits, shared.flags), store, PostgresIdempotencyKeys(shared.database)
    )
    return Batches(runner, section.poll_interval, registration(servicer))
