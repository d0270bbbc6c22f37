"""The audit log in the schema identity."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from chassis.errors import ArgosyError, Kind
from chassis.postgres import Database
from chassis.telemetry import logger

from gateway.audit.model import AuditEntry, as_entry_of_actor
from gateway.web.pagination import Page, PageRequest, rows_to_page

INSERT_ENTRY = """
    INSERT INTO audit
        (tenant_id, entry_id, action, target, actor_tenant_id, actor_key_id, request_id, detail, created_at,
         outcome, reason)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
SET_OUTCOME = "UPDATE audit SET outcome = $3, reason = $4 WHERE tenant_id = $1 AND entry_id = $2"
# Ids grow with time, so the order of ids is the order of creation.
LIST_ENTRIES = """
    SELECT * FROM audit WHERE tenant_id = $1 AND ($2 = '' OR entry_id < $2) ORDER BY entry_id DESC LIMIT $3
"""

log = logger("gateway")


class PostgresAuditLog:
    """`AuditLog` on Postgres. `require_tenant` raises TenantNotFound; it is passed in, as tenants depend on audit."""

    def __init__(self, database: Database, require_tenant: Callable[[Any, str], Awaitable[object]]) -> None:
        self._database = database
        self._require_tenant = require_tenant

    async def add_entry(self, entry: AuditEntry) -> None:
        async with self._database.tenant(entry.tenant_id) as connection:
            await self._require_tenant(connection, entry.tenant_id)
            await insert_entry(connection, entry)

    async def add_refusal(self, entry: AuditEntry) -> None:
        try:
            try:
                await self.add_entry(entry)
            except ArgosyError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                await self.add_entry(as_entry_of_actor(entry))
        except ArgosyError as error:
            log.error(  # noqa: TRY400 - the reason is all there is to know
                "audit_refusal_not_written", action=entry.action, target=entry.target, reason=error.reason
            )

    async def set_outcome(self, entry: AuditEntry) -> None:
        try:
            async with self._database.tenant(entry.tenant_id) as connection:
                await connection.execute(SET_OUTCOME, entry.tenant_id, entry.entry_id, entry.outcome, entry.reason)
        except ArgosyError as error:
            log.error(  # noqa: TRY400 - the reason is all there is to know
                "audit_outcome_not_written", entry_id=entry.entry_id, outcome=entry.outcome, reason=error.reason
            )

    async def list_entries(self, tenant_id: str, page: PageRequest) -> Page[AuditEntry]:
        async with self._database.tenant(tenant_id) as connection:
            await self._require_tenant(connection, tenant_id)
            rows = await connection.fetch(LIST_ENTRIES, tenant_id, page.after, page.limit + 1)
        return rows_to_page(rows, page, row_to_entry)


async def insert_entry(connection: Any, entry: AuditEntry) -> None:
    """Add an entry in the transaction of the write that it records."""
    await connection.execute(INSERT_ENTRY, *entry_to_row(entry))


def row_to_entry(row: Any) -> AuditEntry:
    return AuditEntry(
        tenant_id=row["tenant_id"],
        entry_id=row["entry_id"],
        action=row["action"],
        target=row["target"],
        actor_tenant_id=row["actor_tenant_id"],
        actor_key_id=row["actor_key_id"],
        request_id=row["request_id"],
        detail=orjson.loads(row["detail"]),
        created_at=row["created_at"],
        outcome=row["outcome"],
        reason=row["reason"],
    )


def entry_to_row(entry: AuditEntry) -> tuple[object, ...]:
    """The columns of `audit`, in the order of its INSERT."""
    return (
        entry.tenant_id,
        entry.entry_id,
        entry.action,
        entry.target,
        entry.actor_tenant_id,
        entry.actor_key_id,
        entry.request_id,
        orjson.dumps(dict(entry.detail)).decode(),
        entry.created_at,
        entry.outcome,
        entry.reason,
    )
