"""The orchestrator's schema: routes, and the outbox of usage events. Both are of all tenants at once."""

from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, cast

import asyncpg
from chassis.errors import ArgosyError, PermissionDenied
from chassis.grpc import timestamp_to_proto
from chassis.kafka import Event, Outbox
from chassis.postgres import Database, GroupCommit
from chassis.telemetry import inject, logger

from orchestrator.adapters.events import USAGE_RECORDED, usage_recorded
from orchestrator.domain.route_entry import RouteEntry
from orchestrator.domain.routes import Route, RouteCandidate, RouteTable, Task
from orchestrator.domain.usage import RequestUsage
from orchestrator.metrics import RECORD_BATCH, RECORD_SECONDS

log = logger("orchestrator.postgres")

ROUTES = """
SELECT r.tenant_id, r.model, r.task, r.created_at, c.upstream, c.upstream_model, c.max_output_tokens, c.limit_field
FROM routes AS r LEFT JOIN route_candidates AS c USING (tenant_id, model)
ORDER BY r.tenant_id, r.model, c.position
"""

# The row is locked from here on: of two who write a route at once, the second one's is whole.
PUT_ROUTE = """
INSERT INTO routes (tenant_id, model, task) VALUES ($1, $2, $3)
ON CONFLICT (tenant_id, model) DO UPDATE SET task = excluded.task
"""

PUT_CANDIDATES = """
INSERT INTO route_candidates (tenant_id, model, position, upstream, upstream_model, max_output_tokens, limit_field)
SELECT $1, $2, place - 1, upstream, upstream_model, max_output_tokens, limit_field
FROM unnest($3::text[], $4::text[], $5::integer[], $6::text[])
    WITH ORDINALITY AS new (upstream, upstream_model, max_output_tokens, limit_field, place)
"""

COMMITS_APART = timedelta(milliseconds=4)
"""Under load a commit begins so long after the last one: fewer commits, for more events each."""

TIME_IS_KNOWN_SECONDS = 10.0


class PostgresRouteBook:
    """Routes as the tables have them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, known_version: int | None) -> RouteTable | None:
        """As `RouteBook.read`."""
        async with self._database.system() as connection:
            # First the version: a change in between is read now under the old number, and once more under the new one.
            version = await connection.fetchval("SELECT version FROM route_versions")
            if version == known_version:
                return None
            rows = await connection.fetch(ROUTES)
        return RouteTable(version, _routes(rows))


class PostgresRouteEditor:
    """Routes as the owner of the schema writes them; the service's own role may not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, entry: RouteEntry) -> None:
        """As `RouteEditor.put`."""
        owner, candidates = (entry.tenant_id, entry.model), entry.candidates
        async with self._owning() as connection:
            await connection.execute(PUT_ROUTE, *owner, entry.task)
            await connection.execute("DELETE FROM route_candidates WHERE tenant_id = $1 AND model = $2", *owner)
            await connection.execute(
                PUT_CANDIDATES,
                *owner,
                [candidate.upstream for candidate in candidates],
                [candidate.model for candidate in candidates],
                [candidate.max_output_tokens for candidate in candidates],
                [candidate.limit_field for candidate in candidates],
            )

    async def remove(self, tenant_id: str, model: str) -> bool:
        """As `RouteEditor.remove`."""
        async with self._owning() as connection:
            status = await connection.execute(
                "DELETE FROM routes WHERE tenant_id = $1 AND model = $2", tenant_id, model
            )
        return bool(status != "DELETE 0")

    async def entries(self, tenant_id: str | None) -> list[RouteEntry]:
        """As `RouteEditor.entries`."""
        async with self._owning() as connection:
            routes = _routes(await connection.fetch(ROUTES))
        found = [
            RouteEntry(owner, model, route.task, route.candidates)
            for (owner, model), route in routes.items()
            if tenant_id in {None, owner}
        ]
        return sorted(found, key=lambda entry: (entry.model, entry.tenant_id))

    @asynccontextmanager
    async def _owning(self) -> AsyncIterator[Any]:
        try:
            async with self._database.system() as connection:
                yield connection
        except asyncpg.InsufficientPrivilegeError as error:
            raise PermissionDenied("this role may not change routes: the owner of the schema may") from error


class PostgresUsageLog:
    """Usage, as events in the outbox; those that wait are written together, by one transaction."""

    def __init__(self, database: Database, on_written: Callable[[], None]) -> None:
        """`on_written` is called after each commit: somebody may want to publish."""
        self._database = database
        self._on_written = on_written
        self._grouper: GroupCommit[_Entry, None] = GroupCommit(self._write, pace=COMMITS_APART)
        self._time: datetime | None = None
        self._time_read_at = 0.0

    async def record(self, usage: RequestUsage) -> None:
        """As `UsageLog.record`."""
        headers: dict[str, str] = {}
        inject(headers)
        await self._grouper.submit((usage, headers))

    async def pending(self) -> int:
        """How many events wait for Kafka."""
        async with self._database.system() as connection:
            return int(await connection.fetchval("SELECT count(*) FROM outbox"))

    async def _write(self, entries: "list[_Entry]") -> "list[ArgosyError | None]":
        RECORD_BATCH.observe(len(entries))
        try:
            with RECORD_SECONDS.time():
                await self._insert(entries)
        except Exception as error:
            log.warning("usage_not_written", events=len(entries), error=str(error) or type(error).__name__)
            raise
        self._on_written()
        return [None] * len(entries)

    async def _insert(self, entries: "Sequence[_Entry]") -> None:
        now = timestamp_to_proto(await self._now())
        # The id of an event is that of its row: writing it again, because nobody heard that it was written, changes
        # nothing.
        written = await Outbox.enqueue_all(
            self._database.system(),
            [
                Event(
                    usage.tenant_id,
                    usage.event_id,
                    USAGE_RECORDED,
                    usage_recorded(usage, now).SerializeToString(),
                    headers,
                )
                for usage, headers in entries
            ],
        )
        self._time, self._time_read_at = written, monotonic()

    async def _now(self) -> datetime:
        """The time by the clock that also dates reservations: the database's. What it said last is moved on."""
        since = monotonic() - self._time_read_at
        if self._time is None or since > TIME_IS_KNOWN_SECONDS:
            ((now,),) = await self._database.system().fetch("SELECT clock_timestamp()")
            return cast("datetime", now)
        return self._time + timedelta(seconds=since)


_Entry = tuple[RequestUsage, dict[str, str]]


def _routes(rows: Sequence[Any]) -> dict[tuple[str, str], Route]:
    candidates: dict[tuple[str, str], list[RouteCandidate]] = defaultdict(list)
    for row in rows:
        # A route without candidates has one row, without a candidate in it.
        if row["upstream"] is not None:
            candidates[row["tenant_id"], row["model"]].append(
                RouteCandidate(row["upstream"], row["upstream_model"], row["max_output_tokens"], row["limit_field"])
            )
    return {
        (owner, model): Route(model, Task(row["task"]), tuple(candidates[owner, model]), row["created_at"])
        for row in rows
        for owner, model in [(row["tenant_id"], row["model"])]
    }
