"""The orchestrator's schema: routes, and the outbox of usage events. Both are of all tenants at once."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from chassis.errors import ArgosyError, PermissionDenied
from chassis.postgres import Database, Grouper
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

# The id of an event is that of its row: writing it again, because nobody heard that it was written, changes nothing.
WRITE = """
INSERT INTO outbox (tenant_id, id, topic, value, headers)
SELECT tenant_id, id, $1, value, headers::jsonb
FROM unnest($2::text[], $3::text[], $4::bytea[], $5::text[]) AS new (tenant_id, id, value, headers)
ON CONFLICT (tenant_id, id) DO NOTHING
"""


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
        self._grouper: Grouper[_Entry, None] = Grouper(self._write)

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
        async with self._database.system() as connection:
            # The events say when they happened by the clock that also dates reservations.
            now = await connection.fetchval("SELECT clock_timestamp()")
            await connection.execute(
                WRITE,
                USAGE_RECORDED,
                [usage.tenant_id for usage, _ in entries],
                [usage.event_id for usage, _ in entries],
                [usage_recorded(usage, now).SerializeToString() for usage, _ in entries],
                [json.dumps(headers) for _, headers in entries],
            )


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
