"""Usage events in the outbox table, from which a relay publishes them to Kafka."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from time import monotonic
from typing import cast

import orjson
from chassis.errors import ArgosyError
from chassis.kafka import Event, Outbox
from chassis.kafka.outbox import MAX_VALUE_BYTES
from chassis.postgres import Database, GroupCommit
from chassis.telemetry import inject, logger
from google.protobuf.timestamp_pb2 import Timestamp
from values.protos import timestamp_to_proto

from orchestrator.background_tasks import RequestKey
from orchestrator.metrics import OUTBOX_PENDING, USAGE_WRITE_BATCH, USAGE_WRITE_SECONDS
from orchestrator.usage.model import Hits, RequestUsage
from orchestrator.usage.protos import hits_to_proto, request_usage_to_proto

USAGE_RECORDED = "argosy.metering.usage-recorded.v1"
HITS_RECORDED = "argosy.metering.hits-recorded.v1"

GROUP_COMMIT_INTERVAL = timedelta(milliseconds=4)
"""Under load, the time from the end of one commit to the next: fewer commits of more events."""

CLOCK_TTL_SECONDS = 10.0

log = logger("orchestrator.postgres")

# As `chassis.kafka.Outbox` does it, with the request, by which an event is found while it waits.
_INSERT = """
WITH written AS (
    INSERT INTO outbox (tenant_id, id, topic, value, headers, request_id)
    SELECT tenant_id, id, $6, value, headers::jsonb, request_id
    FROM unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[])
        AS new (tenant_id, id, value, headers, request_id)
    ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, id) DO NOTHING
)
SELECT clock_timestamp()
"""

_FIND_PENDING = """
SELECT DISTINCT tenant_id, request_id
FROM outbox JOIN unnest($1::text[], $2::text[]) AS asked (tenant_id, request_id) USING (tenant_id, request_id)
"""

_Entry = tuple[RequestUsage, dict[str, str]]


class PostgresUsageOutbox:
    """Writes usage events of all tenants. Events that wait at the same time share one transaction."""

    def __init__(self, database: Database, on_written: Callable[[], None]) -> None:
        """`on_written` is called after each commit."""
        self._database = database
        self._on_written = on_written
        self._group_commit: GroupCommit[_Entry, None] = GroupCommit(self._write, interval=GROUP_COMMIT_INTERVAL)
        self._time: datetime | None = None
        self._time_read_at = 0.0

    async def write(self, usage: RequestUsage) -> None:
        headers: dict[str, str] = {}
        inject(headers)
        await self._group_commit.submit((usage, headers))

    async def write_hits(self, together: Sequence[Hits]) -> None:
        try:
            now = timestamp_to_proto(await self._now())
            events = [event for hits in together for event in hits_to_events(hits, now)]
            self._note_time(await Outbox.enqueue_all(self._database.system(), events))
        except Exception as error:
            count = sum(len(hits.hits) for hits in together)
            log.warning("hits_write_failed", hits=count, error=str(error) or type(error).__name__)
            raise
        self._on_written()

    async def find_pending(self, requests: Collection[RequestKey]) -> set[RequestKey]:
        tenants, ids = [tenant for tenant, _ in requests], [request_id for _, request_id in requests]
        rows = await self._database.system().fetch(_FIND_PENDING, tenants, ids)
        return {(tenant, request_id) for tenant, request_id in rows}

    async def count_pending(self) -> int:
        """Return how many events wait for Kafka."""
        async with self._database.system() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM outbox"))

    async def update_gauge(self) -> None:
        """Set the outbox gauge; it keeps its last value when Postgres is unavailable."""
        OUTBOX_PENDING.set(await self.count_pending())

    async def _write(self, entries: list[_Entry]) -> list[ArgosyError | None]:
        USAGE_WRITE_BATCH.observe(len(entries))
        try:
            with USAGE_WRITE_SECONDS.time():
                await self._insert(entries)
        except Exception as error:
            log.warning("usage_write_failed", events=len(entries), error=str(error) or type(error).__name__)
            raise
        self._on_written()
        return [None] * len(entries)

    async def _insert(self, entries: Sequence[_Entry]) -> None:
        now = timestamp_to_proto(await self._now())
        # An event's id is its row's id: after a commit whose reply was lost, writing it again changes nothing.
        ((written_at,),) = await self._database.system().fetch(
            _INSERT,
            [usage.tenant_id for usage, _ in entries],
            [usage.event_id for usage, _ in entries],
            [request_usage_to_proto(usage, now).SerializeToString() for usage, _ in entries],
            [orjson.dumps(headers).decode() if headers else "{}" for _, headers in entries],
            [usage.request_id for usage, _ in entries],
            USAGE_RECORDED,
        )
        self._note_time(written_at)

    def _note_time(self, at: datetime) -> None:
        self._time, self._time_read_at = at, monotonic()

    async def _now(self) -> datetime:
        """The database's clock, which also dates reservations. Between two reads of it the local clock moves it on."""
        since = monotonic() - self._time_read_at
        if self._time is None or since > CLOCK_TTL_SECONDS:
            ((now,),) = await self._database.system().fetch("SELECT clock_timestamp()")
            return cast("datetime", now)
        return self._time + timedelta(seconds=since)


def hits_to_events(hits: Hits, now: Timestamp) -> list[Event]:
    """Make one event, or more where it would be too large for a record."""
    value = hits_to_proto(hits, now).SerializeToString()
    if len(value) <= MAX_VALUE_BYTES or len(hits.hits) == 1:
        return [Event(hits.tenant_id, hits.event_id, HITS_RECORDED, value, {})]
    half = len(hits.hits) // 2
    parts = (hits.hits[:half], hits.hits[half:])
    # The same ids each time: writing the parts again changes nothing.
    return [
        event
        for number, part in enumerate(parts)
        for event in hits_to_events(Hits(f"{hits.event_id}.{number}", hits.tenant_id, part), now)
    ]


class CoalescedCall:
    """Coalesces calls made within a delay into one: calls `call` once, `delay` after the first of them."""

    def __init__(self, call: Callable[[], None], delay: timedelta) -> None:
        self._call = call
        self._delay_seconds = delay.total_seconds()
        self._scheduled = False

    def __call__(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(self._delay_seconds, self._run)

    def _run(self) -> None:
        self._scheduled = False
        self._call()
