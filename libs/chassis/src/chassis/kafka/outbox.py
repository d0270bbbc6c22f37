"""Transactional outbox: events are written in the transaction of the change they report and published afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

import orjson

from chassis.aio import Backoff, ConnectionLog, Loop, wait_or_stop
from chassis.errors import ArgosyError, Unavailable
from chassis.ids import new_id
from chassis.kafka.publisher import MAX_RECORD_BYTES, RecordTooLarge
from chassis.kafka.record import NO_HEADERS, Record
from chassis.telemetry import counter, gauge, inject, logger
from chassis.telemetry.rate_limited import RateLimitedLog

POLL_SECONDS: Final = 0.5
BATCH_SIZE: Final = 500
MAX_VALUE_BYTES: Final = MAX_RECORD_BYTES - 16 * 1024  # the rest is for key and headers
MAX_RETRY_SECONDS: Final = 5.0
RECORD_KEY: Final = "argosy-record-key"
"""A header of a row that is not published: the key of its record. Without it a record is keyed by its tenant."""

PUBLISHED = counter("argosy_outbox_published_total", "Records published from the outbox.")
WAITING = gauge("argosy_outbox_waiting", "Records found in the outbox by the last poll, up to one batch.")
OLDEST_SECONDS = gauge(
    "argosy_outbox_oldest_seconds",
    "Age of the oldest record that the last poll found and Kafka has not acknowledged; 0 if there is none.",
)

log = logger("chassis.kafka")


# In the order of the key: of two transactions that write the same records again, one waits for the other, not both.
# It also returns the database's time, which saves callers that need it a statement.
ENQUEUE: Final = """
WITH written AS (
    INSERT INTO outbox (tenant_id, id, topic, value, headers)
    SELECT tenant_id, id, topic, value, headers::jsonb
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
        AS new (tenant_id, id, topic, value, headers)
    ORDER BY tenant_id, id
    ON CONFLICT (tenant_id, id) DO NOTHING
)
SELECT clock_timestamp()
"""


# Ages by the database's clock, which also dated the rows.
FETCH: Final = """
SELECT tenant_id, id, topic, value, headers, date_part('epoch', clock_timestamp() - created_at) AS age
FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""


class Executor(Protocol):
    """Runs a statement: a connection in a transaction, or a `SystemTransaction` that is one statement."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """Return the rows of the result."""


class Transactions(Protocol):
    """The service's database."""

    def system(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction over all tenants."""


class RecordPublisher(Protocol):
    """Publishes the outbox's records."""

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish in order; return for each record its error, or None."""


class Event(NamedTuple):
    """An event to publish, keyed by its tenant. Writing the same id again has no effect."""

    tenant_id: str
    id: str
    topic: str
    value: bytes
    headers: Mapping[str, str]


class Outbox:
    """The table `outbox` of the service's schema, which a migration of the service creates.

    Its columns: tenant_id text, id text, topic text, value bytea, headers jsonb, created_at timestamptz default now();
    primary key (tenant_id, id), and an index on (id). Records are published in the order of their ids, which sort by
    creation time.
    """

    @staticmethod
    async def enqueue(connection: Executor, topic: str, tenant_id: str, value: bytes) -> None:
        """Publish `value` on `topic`, keyed by the tenant, once the transaction of `connection` has committed.

        Raises `RecordTooLarge`. Call `OutboxRelay.wake` after the commit to have it published at once.
        """
        carrier: dict[str, str] = {}
        inject(carrier)
        await Outbox.enqueue_all(connection, [Event(tenant_id, new_id("out_"), topic, value, carrier)])

    @staticmethod
    async def enqueue_all(connection: Executor, events: Sequence[Event]) -> datetime:
        """Publish all, as `enqueue`; events with known ids are ignored. Returns the database's time."""
        for event in events:
            if len(event.value) > MAX_VALUE_BYTES:
                # Refused before it is committed: in the table it would wait for ever.
                raise RecordTooLarge(f"a record for {event.topic} has {len(event.value)} bytes")
        ((now,),) = await connection.fetch(
            ENQUEUE,
            [event.tenant_id for event in events],
            [event.id for event in events],
            [event.topic for event in events],
            [event.value for event in events],
            [orjson.dumps(event.headers).decode() if event.headers else "{}" for event in events],
        )
        at: datetime = now
        return at


class OutboxRelay(Loop):
    """A component that publishes the outbox's records, oldest first, and deletes those that Kafka has acknowledged.

    Every replica may run one, because rows are locked while they are published. A record is published at least once.
    While Kafka or Postgres is down it retries with backoff. When it stops it polls one last time.
    """

    def __init__(self, database: Transactions, publisher: RecordPublisher, poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__("outbox relay", self._relay)
        self._database = database
        self._publisher = publisher
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._failure_log = RateLimitedLog(log)
        self._outage_log = ConnectionLog(log, "outbox_relay_failed", "outbox_relay_recovered")

    async def stop(self) -> None:
        """Poll once more, and end."""
        self._woken.set()
        await super().stop()

    def wake(self) -> None:
        """Poll now, because a transaction was committed."""
        self._woken.set()

    async def _relay(self, stop: asyncio.Event) -> None:
        backoff = Backoff(max_seconds=MAX_RETRY_SECONDS)
        last = False
        while not last:
            last = stop.is_set()
            self._woken.clear()
            wait = await self._poll(backoff)
            if wait > 0 and not last:
                # `wake` shortens the poll interval but not the backoff after a failure; `stop` shortens both.
                await wait_or_stop(stop if backoff.failures else self._woken, wait)

    async def _poll(self, backoff: Backoff) -> float:
        """Publish one batch; return the seconds until the next poll."""
        try:
            found, published = await self.relay()
        except Unavailable as error:
            self._outage_log.set(connected=False, reason=error.message)
            return backoff.next()
        except Exception as error:  # noqa: BLE001 - what a store answers must not end the service
            self._failure_log.warning("outbox_relay_failed", key=type(error).__name__, exc_info=error)
            return backoff.next()
        if published < found:
            self._outage_log.set(
                connected=False, reason=f"{found - published} of {found} records were not acknowledged"
            )
            return backoff.next()
        self._outage_log.set(connected=True)
        backoff.reset()
        return 0.0 if found == BATCH_SIZE else self._poll_seconds

    async def relay(self) -> tuple[int, int]:
        """Publish one batch; return how many records were found, and how many of them were published and deleted."""
        async with self._database.system() as connection:
            rows = await connection.fetch(FETCH, BATCH_SIZE)
            WAITING.set(len(rows))
            if not rows:
                OLDEST_SECONDS.set(0)
                return 0, 0
            failures = await self._publisher.publish_all([_row_to_record(row) for row in rows])
            done = [row for row, failure in zip(rows, failures, strict=True) if failure is None]
            kept = [row["age"] for row, failure in zip(rows, failures, strict=True) if failure is not None]
            OLDEST_SECONDS.set(max(kept, default=0.0))
            await connection.execute(
                "DELETE FROM outbox USING unnest($1::text[], $2::text[]) AS done (tenant_id, id)"
                " WHERE outbox.tenant_id = done.tenant_id AND outbox.id = done.id",
                [row["tenant_id"] for row in done],
                [row["id"] for row in done],
            )
        PUBLISHED.inc(len(done))
        return len(rows), len(done)


def _row_to_record(row: Any) -> Record:
    tenant_id, topic, value, headers = row["tenant_id"], row["topic"], row["value"], row["headers"]
    # Most records have no headers, and parsing an empty object costs as much as everything else here.
    if headers == "{}":
        return Record(topic, tenant_id.encode(), value, NO_HEADERS)
    parsed = orjson.loads(headers)
    return Record(topic, parsed.pop(RECORD_KEY, tenant_id).encode(), value, parsed)
