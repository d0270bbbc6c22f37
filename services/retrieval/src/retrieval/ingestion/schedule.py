"""Background work of ingestion: runs over queued files, and the reaper that queues overdue attachments."""

import asyncio
import time
from collections.abc import Awaitable

from chassis.errors import ArgosyError
from chassis.telemetry import bind, logger, span

from retrieval import metrics
from retrieval.ingestion.fair_queue import FairQueue
from retrieval.ingestion.model import RunResult, RunSummary
from retrieval.ingestion.ports import IngestionStore
from retrieval.ingestion.run import Ingestion
from retrieval.vector_stores.model import AttachmentKey

REAPER_BATCH_SIZE = 100
# Pause after a run that could not store its result. The lease keeps the file from other processes for longer.
ERROR_PAUSE_SECONDS = 1.0

log = logger("retrieval")


class IngestionWorker:
    """Runs ingestion with log lines and metrics. An error of one run does not stop the next."""

    def __init__(self, ingestion: Ingestion, queue: FairQueue) -> None:
        self._ingestion = ingestion
        self._queue = queue
        self.running = 0
        """Files that this process ingests now."""

    async def run(self, key: AttachmentKey) -> None:
        metrics.INGESTION_QUEUE_SIZE.set(len(self._queue))
        started = time.monotonic()
        with (
            bind(tenant_id=key.tenant_id, vector_store_id=key.vector_store_id, file_id=key.file_id),
            span("ingestion", vector_store_id=key.vector_store_id, file_id=key.file_id),
        ):
            self.running += 1
            try:
                summary = await survive(self._ingestion.run(key), "ingestion_failed")
            finally:
                self.running -= 1
            if summary is not None:
                _report(summary, time.monotonic() - started)


async def survive(run: Awaitable[RunSummary | None], event: str) -> RunSummary | None:
    """The result of the run; after an error None, a line in the log and a pause."""
    try:
        return await run
    except ArgosyError as error:
        log.warning(event, reason=error.reason, message=error.message)
    except Exception:
        log.exception(event)
    await asyncio.sleep(ERROR_PAUSE_SECONDS)
    return None


async def queue_overdue(store: IngestionStore, queue: FairQueue) -> None:
    """Queue attachments whose event or process was lost, or that were postponed."""
    for key in await store.overdue(REAPER_BATCH_SIZE):
        queue.put(key)
    metrics.INGESTION_QUEUE_SIZE.set(len(queue))


def _report(summary: RunSummary, seconds: float) -> None:
    metrics.INGESTION_RUNS.labels(summary.result).inc()
    metrics.CHUNKS.labels("embedded").inc(summary.chunks - summary.reused)
    metrics.CHUNKS.labels("reused").inc(summary.reused)
    if summary.result is RunResult.COMPLETED:
        metrics.INGESTION_SECONDS.observe(seconds)
    if summary.result is RunResult.FAILED:
        metrics.INGESTION_FAILURES.labels(summary.reason).inc()
    log.info(
        "ingestion_finished",
        outcome=summary.result,
        reason=summary.reason,
        chunks=summary.chunks,
        seconds=round(seconds, 3),
    )
