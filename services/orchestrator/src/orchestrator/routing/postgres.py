"""Routes in Postgres."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import orjson
from chassis.postgres import Database

from orchestrator.configuration.model import ConfigurationKind, Edit, ObjectKey
from orchestrator.configuration.model import Document as Configured
from orchestrator.configuration.ports import Configuration, OpenChange
from orchestrator.routing.choose import ChangeRoute, RouteCommands, RouteTable
from orchestrator.routing.document import (
    Document,
    document_to_entry,
    document_to_policy,
    entry_to_document,
    options_to_document,
    policy_to_document,
    with_options,
)
from orchestrator.routing.model import Provider, Route, RouteCandidate, RouteEntry, StoredRoute, Task, UnknownFields
from orchestrator.workers.model import CandidateRole

SELECT_ROUTES = """
SELECT r.tenant_id, r.model, r.task, r.created_at, c.upstream, c.upstream_model, c.max_output_tokens, c.limit_field,
    c.unknown_fields, c.provider, c.role, c.options, r.policy, r.version
FROM routes AS r LEFT JOIN route_candidates AS c USING (tenant_id, model)
{where}ORDER BY r.tenant_id, r.model, c.position
"""
SELECT_ALL = SELECT_ROUTES.format(where="")
SELECT_ONE = SELECT_ROUTES.format(where="WHERE r.tenant_id = $1 AND r.model = $2 ")

UPSERT_ROUTE = """
INSERT INTO routes (tenant_id, model, task, policy, version) VALUES ($1, $2, $3, $4::jsonb, $5)
ON CONFLICT (tenant_id, model) DO UPDATE
SET task = excluded.task, policy = excluded.policy, version = excluded.version
"""
DELETE_ROUTE = "DELETE FROM routes WHERE tenant_id = $1 AND model = $2"
DELETE_CANDIDATES = "DELETE FROM route_candidates WHERE tenant_id = $1 AND model = $2"

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


class PostgresRouteStore(RouteCommands):
    """Routes of all tenants. Implements `RouteStore`, and `Restorer` for rollbacks of the whole configuration."""

    def __init__(self, database: Database, configuration: Configuration) -> None:
        self._database = database
        self._configuration = configuration

    async def read(self, known_version: int | None) -> RouteTable | None:
        async with self._database.system() as connection:
            # The version is read first: a change between the two reads gets read now and again under its own version.
            version = await connection.fetchval("SELECT version FROM route_versions")
            if version == known_version:
                return None
            rows = await connection.fetch(SELECT_ALL)
        return RouteTable(version, _rows_to_routes(rows))

    async def find(self, tenant_id: str, model: str) -> StoredRoute | None:
        async with self._database.system() as connection:
            return await _find(connection, tenant_id, model)

    async def stored(self, tenant_id: str | None) -> list[StoredRoute]:
        async with self._database.system() as connection:
            rows = await connection.fetch(SELECT_ALL)
        found = [stored for stored in _rows_to_stored(rows) if tenant_id in {None, stored.entry.tenant_id}]
        return sorted(found, key=lambda stored: (stored.entry.model, stored.entry.tenant_id))

    async def edit(self, tenant_id: str, model: str, edit: Edit, change: ChangeRoute) -> StoredRoute | None:
        async with self._configuration.change(edit) as opened:
            stored = await _find(opened.connection, tenant_id, model)
            await _write(opened, ObjectKey(ConfigurationKind.ROUTE, tenant_id, model), stored, change(stored))
            return await _find(opened.connection, tenant_id, model)

    async def restore(self, change: OpenChange, key: ObjectKey, document: Configured | None) -> None:
        entry = None if document is None else document_to_entry(key.tenant_id, key.name, document)
        await _write(change, key, await _find(change.connection, key.tenant_id, key.name), entry)


async def _find(connection: Any, tenant_id: str, model: str) -> StoredRoute | None:
    found = _rows_to_stored(await connection.fetch(SELECT_ONE, tenant_id, model))
    return found[0] if found else None


async def _write(opened: OpenChange, key: ObjectKey, stored: StoredRoute | None, entry: RouteEntry | None) -> None:
    before = None if stored is None else entry_to_document(stored.entry)
    after = None if entry is None else entry_to_document(entry)
    version = await opened.record(key, before, after)
    if version is None:
        return
    connection, of_route = opened.connection, (key.tenant_id, key.name)
    if entry is None:
        await connection.execute(DELETE_ROUTE, *of_route)
        return
    policy = _to_json(policy_to_document(entry.policy))
    await connection.execute(UPSERT_ROUTE, *of_route, entry.task, policy, version)
    await connection.execute(DELETE_CANDIDATES, *of_route)
    candidates = entry.candidates
    await connection.execute(
        INSERT_CANDIDATES,
        *of_route,
        [candidate.upstream for candidate in candidates],
        [candidate.model for candidate in candidates],
        [candidate.max_output_tokens for candidate in candidates],
        [candidate.limit_field for candidate in candidates],
        [candidate.unknown_fields for candidate in candidates],
        [candidate.provider for candidate in candidates],
        [candidate.role for candidate in candidates],
        [_to_json(options_to_document(candidate)) for candidate in candidates],
    )


async def models_of_upstream(connection: Any, upstream: str) -> Sequence[str]:
    """Return the models whose routes have candidates of an upstream; at most ten."""
    return [row["model"] for row in await connection.fetch(MODELS_OF_UPSTREAM, upstream)]


def _rows_to_stored(rows: Sequence[Any]) -> list[StoredRoute]:
    versions = {(row["tenant_id"], row["model"]): row["version"] for row in rows}
    return [
        StoredRoute(
            RouteEntry(owner, model, route.task, route.candidates, route.policy),
            versions[owner, model],
            route.created_at,
        )
        for (owner, model), route in _rows_to_routes(rows).items()
    ]


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
