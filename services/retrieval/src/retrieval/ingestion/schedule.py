"""What retrieval does by itself: indexing what waits, finding what was lost, removing what is superfluous."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.errors import ArgosyError
from chassis.telemetry import bind, logger, span

from retrieval import metrics
from retrieval.domain.backlog import Backlog
from retrieval.domain.files import Objects
from retrieval.domain.ingestion import AttachmentKey, End, Ingestion, Ingests, Outcome
from retrieval.domain.removal import Removals, sweep

AT_ONCE = 100
# After a run that could not even say how it ended; its lease keeps the file from others for longer.
REST_SECONDS = 1.0

log = logger("retrieval")


def every(
    period: timedelta, body: Callable[[], Awaitable[bool]], name: str
) -> Callable[[asyncio.Event], Awaitable[None]]:
    """A loop's body: calls `body` again at once while it answers True, else after `period`. Failures are waited out."""

    async def loop(stop: asyncio.Event) -> None:
        while not stop.is_set():
            more = False
            try:
                more = await body()
            except ArgosyError as error:
                log.warning("loop_failed", loop=name, reason=error.reason, message=error.message)
            if not more:
                await _wait(stop, period)

    return loop


async def _wait(stop: asyncio.Event, period: timedelta) -> None:
    try:
        async with asyncio.timeout(period.total_seconds()):
            await stop.wait()
    except TimeoutError:
        return


class Indexing:
    """Runs over single files, each with its log line and its numbers; whatever goes wrong, the next file comes."""

    def __init__(self, ingestion: Ingestion, backlog: Backlog) -> None:
        self._ingestion = ingestion
        self._backlog = backlog

    async def run(self, key: AttachmentKey) -> None:
        """Index one file, if it is free."""
        metrics.BACKLOG.set(len(self._backlog))
        started = time.monotonic()
        with (
            bind(tenant_id=key.tenant_id, vector_store_id=key.vector_store_id, file_id=key.file_id),
            span("ingest", vector_store_id=key.vector_store_id, file_id=key.file_id),
        ):
            try:
                outcome = await self._ingestion.run(key)
            except ArgosyError as error:
                log.warning("ingest_broke_off", reason=error.reason, message=error.message)
                await asyncio.sleep(REST_SECONDS)
            except Exception:
                log.exception("ingest_broke_off")
                await asyncio.sleep(REST_SECONDS)
            else:
                if outcome is not None:
                    _report(outcome, time.monotonic() - started)


class Reaper:
    """Finds files that wait though nobody has them: their event or their process was lost, or they were postponed."""

    def __init__(self, ingests: Ingests, backlog: Backlog) -> None:
        self._ingests = ingests
        self._backlog = backlog

    async def look(self) -> bool:
        """Put some into the backlog."""
        for key in await self._ingests.due(AT_ONCE):
            self._backlog.offer(key)
        metrics.BACKLOG.set(len(self._backlog))
        return False


class Sweeper:
    """Removes what nothing refers to."""

    def __init__(self, removals: Removals, objects: Objects) -> None:
        self._removals = removals
        self._objects = objects

    async def look(self) -> bool:
        """Remove some; True when there may be more."""
        removed = await sweep(removals=self._removals, objects=self._objects)
        metrics.REMOVALS.inc(removed)
        return removed > 0


def _report(outcome: Outcome, seconds: float) -> None:
    metrics.INGESTS.labels(outcome.end).inc()
    metrics.CHUNKS.labels("embedded").inc(outcome.chunks - outcome.reused)
    metrics.CHUNKS.labels("reused").inc(outcome.reused)
    if outcome.end is End.COMPLETED:
        metrics.INGEST_SECONDS.observe(seconds)
    if outcome.end is End.FAILED:
        metrics.REFUSALS.labels(outcome.reason).inc()
    log.info(
        "ingest_ended", outcome=outcome.end, reason=outcome.reason, chunks=outcome.chunks, seconds=round(seconds, 3)
    )
