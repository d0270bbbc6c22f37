"""Events that become true together with the rows they tell of: written in the same transaction, published after it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Final, NamedTuple, Protocol

from chassis.backoff import Backoff
from chassis.errors import ArgosyError, Unavailable
from chassis.ids import new_id
from chassis.kafka.publisher import RECORD_BYTES, RecordTooLarge
from chassis.kafka.record import NOTHING, Record
from chassis.lifecycle import Loop
from chassis.telemetry import counter, gauge, inject, logger

POLL_SECONDS: Final = 0.5
BATCH: Final = 500
VALUE_BYTES: Final = RECORD_BYTES - 16 * 1024  # the rest is for key and headers
LONGEST_WAIT_SECONDS: Final = 5.0

PUBLISHED = counter("argosy_outbox_published_total", "Records published from the outbox.")
WAITING = gauge("argosy_outbox_waiting", "Records seen in the outbox at the last look, up to one batch.")

log = logger("chassis.kafka")


# It tells the time besides: whoever dates events by the database's clock needs no other statement.
ENQUEUE: Final = """
WITH written AS (
    INSERT INTO outbox (tenant_id, id, topic, value, headers)
    SELECT tenant_id, id, topic, value, headers::jsonb
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[])
        AS new (tenant_id, id, topic, value, headers)
    ON CONFLICT (tenant_id, id) DO NOTHING
)
SELECT clock_timestamp()
"""


class Fetching(Protocol):
    """Something that runs a statement: a connection inside a transaction, or a transaction of one statement."""

    async def fetch(self, query: str, *args: Any) -> Sequence[Any]:
        """Return the rows of the statement's answer."""


class Transactions(Protocol):
    """Where the outbox is: the service's database."""

    def system(self) -> AbstractAsyncContextManager[Any]:
        """Open a transaction over all tenants."""


class Telling(Protocol):
    """Where the records go."""

    async def publish_all(self, records: Sequence[Record]) -> list[ArgosyError | None]:
        """Publish in order; say for each what went wrong, or None."""


class Event(NamedTuple):
    """What is to be published, keyed by its tenant. Its id makes writing it repeatable."""

    tenant_id: str
    id: str
    topic: str
    value: bytes
    headers: Mapping[str, str]


class Outbox:
    """The table `outbox` of the service's schema, which a migration of the service makes.

    Its columns: tenant_id text, id text, topic text, value bytea, headers jsonb, created_at timestamptz default now();
    primary key (tenant_id, id), and an index on (id): they are published in that order, which is that of their making.
    """

    @staticmethod
    async def enqueue(connection: Fetching, topic: str, tenant_id: str, value: bytes) -> None:
        """Publish `value` on `topic`, keyed by the tenant, once the transaction of `connection` has committed.

        Raises `RecordTooLarge`. Call `OutboxRelay.wake` after the commit to have it published at once.
        """
        carrier: dict[str, str] = {}
        inject(carrier)
        await Outbox.enqueue_all(connection, [Event(tenant_id, new_id("out_"), topic, value, carrier)])

    @staticmethod
    async def enqueue_all(connection: Fetching, events: Sequence[Event]) -> datetime:
        """Publish all, as `enqueue`; an event that is there already changes nothing. Return the database's time."""
        for event in events:
            if len(event.value) > VALUE_BYTES:
                # Refused here, with the transaction: in the table it would wait for ever.
                raise RecordTooLarge(f"a record for {event.topic} has {len(event.value)} bytes")
        ((now,),) = await connection.fetch(
            ENQUEUE,
            [event.tenant_id for event in events],
            [event.id for event in events],
            [event.topic for event in events],
            [event.value for event in events],
            [json.dumps(event.headers) if event.headers else "{}" for event in events],
        )
        at: datetime = now
        return at


class OutboxRelay(Loop):
    """A component that publishes what the outbox holds, oldest first, and deletes what Kafka has acknowledged.

    Every replica may run one: a row is worked on by one at a time. A record is published at least once. While Kafka or
    Postgres is away it tries again with growing pauses, and the rows wait. When it stops it looks once more.
    """

    def __init__(self, database: Transactions, publisher: Telling, poll_seconds: float = POLL_SECONDS) -> None:
        super().__init__("outbox relay", self._relay)
        self._database = database
        self._publisher = publisher
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._well = True

    async def stop(self) -> None:
        """Publish what is there, once, and end."""
        self._woken.set()
        await super().stop()

    def wake(self) -> None:
        """Look at once: something was committed."""
        self._woken.set()

    async def _relay(self, stop: asyncio.Event) -> None:
        backoff = Backoff(longest=LONGEST_WAIT_SECONDS)
        last = False
        while not last:
            last = stop.is_set()
            self._woken.clear()
            wait = await self._look(backoff)
            if wait > 0 and not last:
                # A wake shortens the poll but not the pause after a failure; the stop shortens both.
                await _rest(stop if backoff.failures else self._woken, wait)

    async def _look(self, backoff: Backoff) -> float:
        """Publish one batch; return the seconds until the next look."""
        try:
            found, published = await self.relay()
        except Unavailable as error:
            self._say(well=False, reason=error.message)
            return backoff.next()
        if published < found:
            self._say(well=False, reason=f"{found - published} of {found} records were not acknowledged")
            return backoff.next()
        self._say(well=True)
        backoff.reset()
        return 0.0 if found == BATCH else self._poll_seconds

    async def relay(self) -> tuple[int, int]:
        """Publish one batch and return how many records were found and how many of them are published and gone."""
        async with self._database.system() as connection:
            rows = await connection.fetch(
                "SELECT tenant_id, id, topic, value, headers FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
                BATCH,
            )
            WAITING.set(len(rows))
            if not rows:
                return 0, 0
            failures = await self._publisher.publish_all([_record(row) for row in rows])
            done = [row for row, failure in zip(rows, failures, strict=True) if failure is None]
            await connection.execute(
                "DELETE FROM outbox USING unnest($1::text[], $2::text[]) AS done (tenant_id, id)"
                " WHERE outbox.tenant_id = done.tenant_id AND outbox.id = done.id",
                [row["tenant_id"] for row in done],
                [row["id"] for row in done],
            )
        PUBLISHED.inc(len(done))
        return len(rows), len(done)

    def _say(self, *, well: bool, reason: str = "") -> None:
        if well == self._well:
            return
        self._well = well
        if well:
            log.info("outbox_flows_again")
        else:
            log.warning("outbox_waits", reason=reason)


async def _rest(until: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await until.wait()
    except TimeoutError:
        return


def _record(row: Any) -> Record:
    tenant_id, topic, value, headers = row["tenant_id"], row["topic"], row["value"], row["headers"]
    # Outside of a trace there are none, and reading nothing costs as much as the rest.
    return Record(topic, tenant_id.encode(), value, NOTHING if headers == "{}" else json.loads(headers))
