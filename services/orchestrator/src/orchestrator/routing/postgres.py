"""Routes in Postgres."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from chassis.errors import PermissionDenied
from chassis.postgres import Database

from orchestrator.routing.choose import RouteTable
from orchestrator.routing.document import (
    Document,
    document_to_policy,
    options_to_document,
    policy_to_document,
    with_options,
)
from orchestrator.routing.model import Provider, Route, RouteCandidate, RouteEntry, Task, UnknownFields
from orchestrator.workers.model import CandidateRole

SELECT_ROUTES = """
SELECT r.tenant_id, r.model, r.task, r.created_at, c.upstream, c.upstream_model, c.max_output_tokens, c.limit_field,
    c.unknown_fields, c.provider, c.role, c.options, r.policy
FROM routes AS r LEFT JOIN route_candidates AS c USING (tenant_id, model)
ORDER BY r.tenant_id, r.model, c.position
"""

# It locks the row: of two concurrent changes of a route, the second waits and replaces the first completely.
UPSERT_ROUTE = """
INSERT INTO routes (tenant_id, model, task, policy) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (tenant_id, model) DO UPDATE SET task = excluded.task, policy = excluded.policy
"""

MODELS_OF_UPSTREAM = "SELECT DISTINCT model FROM route_candidates WHERE upstream = $1 ORDER BY model LIMIT 10"

INSERT_CANDIDATES = """
INSERT INTO route_candidates
    (tenant_id, model, position, upstream, upstream_model, max_output_tokens, limit_field, unknown_fields, provider,
    role, options)
SELECT $1, $2, place - 1, upstream, upstream_model, max_output_tokens, limit_field, unknown_fields, provider,
    role, options::jsonb
FROM unnest($3::text[], $4::text[], $5::integer[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[])
    WITH ORDINALITY AS new (upstream, upstream_model, max_output_tokens, limit_field, unknown_fields, provider,
        role, options, place)
"""


class PostgresRouteStore:
    """Routes of all tenants. Only the schema's owner may change them; the service's own role may not."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, known_version: int | None) -> RouteTable | None:
        async with self._database.system() as connection:
            # The version is read first: a change between the two reads gets read now and again under its own version.
            version = await connection.fetchval("SELECT version FROM route_versions")
            if version == known_version:
                return None
            rows = await connection.fetch(SELECT_ROUTES)
        return RouteTable(version, _rows_to_routes(rows))

    async def put(self, entry: RouteEntry) -> None:
        key, candidates = (entry.tenant_id, entry.model), entry.candidates
        async with self._as_owner() as connection:
            await connection.execute(UPSERT_ROUTE, *key, entry.task, _to_json(policy_to_document(entry.policy)))
            await connection.execute("DELETE FROM route_candidates WHERE tenant_id = $1 AND model = $2", *key)
            await connection.execute(
                INSERT_CANDIDATES,
                *key,
                [candidate.upstream for candidate in candidates],
                [candidate.model for candidate in candidates],
                [candidate.max_output_tokens for candidate in candidates],
                [candidate.limit_field for candidate in candidates],
                [candidate.unknown_fields for candidate in candidates],
                [candidate.provider for candidate in candidates],
                [candidate.role for candidate in candidates],
                [_to_json(options_to_document(candidate)) for candidate in candidates],
            )

    async def remove(self, tenant_id: str, model: str) -> bool:
        async with self._as_owner() as connection:
            status = await connection.execute(
                "DELETE FROM routes WHERE tenant_id = $1 AND model = $2", tenant_id, model
            )
        return bool(status != "DELETE 0")

    async def entries(self, tenant_id: str | None) -> list[RouteEntry]:
        async with self._as_owner() as connection:
            routes = _rows_to_routes(await connection.fetch(SELECT_ROUTES))
        found = [
            RouteEntry(owner, model, route.task, route.candidates, route.policy)
            for (owner, model), route in routes.items()
            if tenant_id in {None, owner}
        ]
        return sorted(found, key=lambda entry: (entry.model, entry.tenant_id))

    @asynccontextmanager
    async def _as_owner(self) -> AsyncIterator[Any]:
        try:
            async with self._database.system() as connection:
                yield connection
        except asyncpg.InsufficientPrivilegeError as error:
            raise PermissionDenied("this role may not change routes: the owner of the schema may") from error


async def models_of_upstream(connection: Any, upstream: str) -> Sequence[str]:
    """Return the models whose routes have candidates of an upstream; at most ten."""
    return [row["model"] for row in await connection.fetch(MODELS_OF_UPSTREAM, upstream)]


def _rows_to_routes(rows: Sequence[Any]) -> dict[tuple[str, str], Route]:
    candidates: dict[tuple[str, str], list[RouteCandidate]] = defaultdict(list)
    for row in rows:
        # A route without candidates has one row, with NULL for the candidate.
        if row["upstream"] is not None:
            candidates[row["tenant_id"], row["model"]].append(_row_to_candidate(row))
    return {
        (owner, model): Route(
            model,
            Task(row["task"]),
            tuple(candidates[owner, model]),
            row["created_at"],
            document_to_policy(orjson.loads(row["policy"])),
        )
        for row in rows
        for owner, model in [(row["tenant_id"], row["model"])]
    }


def _row_to_candidate(row: Any) -> RouteCandidate:
    candidate = RouteCandidate(
        row["upstream"],
        row["upstream_model"],
        row["max_output_tokens"],
        row["limit_field"],
        UnknownFields(row["unknown_fields"]) if row["unknown_fields"] else None,
        Provider(row["provider"]) if row["provider"] else None,
    )
    return with_options(candidate, orjson.loads(row["options"]), CandidateRole(row["role"]))


def _to_json(document: Document) -> str:
    return orjson.dumps(document).decode()
