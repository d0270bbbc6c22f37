"""Background work of store migrations: runs, and the reaper that queues migrations whose process was lost."""

import time

from chassis.telemetry import bind, logger, span

from retrieval import metrics
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.ingestion.model import RunResult, RunSummary
from retrieval.ingestion.schedule import survive
from retrieval.store_migrations.model import MigrationKey
from retrieval.store_migrations.ports import MigrationRuns
from retrieval.store_migrations.run import YIELDED, Migrator

REAPER_BATCH_SIZE = 100

log = logger("retrieval")


class MigrationWorker:
    """Runs migrations with log lines and metrics. An error of one run does not stop the next."""

    def __init__(self, migrator: Migrator, queue: FairQueue) -> None:
        self._migrator = migrator
        self._queue = queue

    async def run(self, key: MigrationKey) -> None:
        started = time.monotonic()
        with (
            bind(tenant_id=key.tenant_id, vector_store_id=key.vector_store_id, migration_id=key.migration_id),
            span("store_migration", vector_store_id=key.vector_store_id, migration_id=key.migration_id),
        ):
            if summary := await survive(self._migrator.run(key), "store_migration_failed"):
                _report(summary, time.monotonic() - started)
                if summary.reason == YIELDED:
                    self._queue.put(key)


async def queue_overdue_migrations(runs: MigrationRuns, queue: FairQueue) -> None:
    """Queue migrations whose process was lost, that were postponed, or whose old vectors are to be deleted."""
    for key in await runs.overdue(REAPER_BATCH_SIZE):
        queue.put(key)


def _report(summary: RunSummary, seconds: float) -> None:
    metrics.MIGRATION_RUNS.labels(summary.result).inc()
    metrics.MIGRATED_CHUNKS.labels("embedded").inc(summary.chunks - summary.reused)
    metrics.MIGRATED_CHUNKS.labels("reused").inc(summary.reused)
    level = log.warning if summary.result is RunResult.FAILED else log.info
    level(
        "store_migration_run_finished",
        outcome=summary.result,
        reason=summary.reason,
        chunks=summary.chunks,
        seconds=round(seconds, 3),
    )
