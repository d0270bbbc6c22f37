"""The ledger in Postgres: accounts are opened under lock, settled by the rules of the domain, and written at once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from time import perf_counter
from typing import Any

from chassis.postgres import Database

from metering.adapters.mapping import (
    Row,
    from_budget_row,
    from_reservation_row,
    from_settlements,
    from_transactions,
)
from metering.adapters.writing import write
from metering.domain.books import Audit, RequestAccount, RequestNotFound
from metering.domain.money import NanoUsd
from metering.domain.settlement import OpenAccount, Posting, UsageEvent, expire, settle_all
from metering.metrics import SETTLE_BATCH, SETTLE_SECONDS

OPEN = "SELECT * FROM metering.open_requests($1, $2, $3)"
OPEN_OVERDUE = "SELECT * FROM metering.open_overdue($1, $2)"

# One statement, so that all of it is seen at one instant.
ACCOUNT = """
SELECT r.state, r.held, r.bounds, r.created_at, r.expires_at,
    (
        SELECT coalesce(jsonb_agg(to_jsonb(s) ORDER BY s.attempt), '[]') FROM metering.settlements AS s
        WHERE s.tenant_id = r.tenant_id AND s.request_id = r.request_id
    ) AS settlements,
    (
        SELECT coalesce(jsonb_agg(to_jsonb(t) || jsonb_build_object('entries', (
            SELECT jsonb_agg(to_jsonb(e) ORDER BY e.line) FROM metering.ledger_entries AS e
            WHERE e.tenant_id = t.tenant_id AND e.transaction_id = t.transaction_id
        )) ORDER BY t.created_at, t.transaction_id), '[]')
        FROM metering.ledger_transactions AS t
        WHERE t.tenant_id = r.tenant_id AND t.request_id = r.request_id
    ) AS transactions
FROM metering.reservations AS r WHERE r.tenant_id = $1 AND r.request_id = $2
"""

# Only transactions since the last look: the older ones summed to zero, and cannot have changed since. They bear the
# time of their beginning, so the looks overlap by more than a transaction can last.
FIRST_LOOK = timedelta(minutes=15)
OVERLAP = timedelta(minutes=1)
AUDIT = """
SELECT
    (
        SELECT coalesce(sum(abs(t.total)), 0) FROM (
            SELECT sum(e.amount) AS total FROM metering.ledger_entries AS e
            WHERE e.created_at > coalesce($1, now() - $2::interval) GROUP BY e.tenant_id, e.transaction_id
        ) AS t
    )::bigint AS imbalance,
    coalesce(sum(abs(b.held - coalesce(r.held, 0))), 0)::bigint AS drift,
    least(coalesce(sum(b.held), 0), 9223372036854775807)::bigint AS held,
    least(coalesce(sum(b.spent), 0), 9223372036854775807)::bigint AS spent,
    now() AS looked_at
FROM metering.budgets AS b
LEFT JOIN (
    SELECT tenant_id, sum(held) AS held FROM metering.reservations WHERE state = 'held' GROUP BY tenant_id
) AS r ON r.tenant_id = b.tenant_id
WHERE b.scope = 'tenant'
"""


class PostgresLedger:
    """Settles and expires over all tenants at once; reads for one tenant at a time."""

    def __init__(self, database: Database, default_cap: NanoUsd) -> None:
        self._database = database
        self._default_cap = default_cap
        self._balanced_until: datetime | None = None

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[Posting]:
        """Settle events in one transaction. Raises `Unavailable` when it has to be tried again."""
        began = perf_counter()
        tenants = [event.tenant_id for event in events]
        requests = [event.request_id for event in events]
        async with self._database.system() as connection:
            rows = await connection.fetch(OPEN, tenants, requests, self._default_cap)
            accounts = {(row["tenant_id"], row["request_id"]): _from_account_row(row) for row in rows}
            budgets = {row["tenant_id"]: from_budget_row(row) for row in rows}
            postings = settle_all(events, accounts, budgets, rows[0]["opened_at"]) if rows else []
            await write(connection, postings)
        SETTLE_BATCH.observe(len(events))
        SETTLE_SECONDS.observe(perf_counter() - began)
        return postings

    async def expire(self, most: int) -> Sequence[Posting]:
        """Give back holds whose lease ran out, at most `most`, in one transaction."""
        async with self._database.system() as connection:
            rows = await connection.fetch(OPEN_OVERDUE, most, self._default_cap)
            postings = [expire(_from_account_row(row), row["opened_at"]) for row in rows]
            await write(connection, postings)
        return postings

    async def account(self, tenant_id: str, request_id: str) -> RequestAccount:
        """Read the whole account of a request. Raises `RequestNotFound`."""
        async with self._database.tenant(tenant_id) as connection:
            row: Any = await connection.fetchrow(ACCOUNT, tenant_id, request_id)
        if row is None:
            raise RequestNotFound(f"there is no request {request_id}", param="request_id")
        return RequestAccount(
            from_reservation_row(row, tenant_id, request_id),
            from_settlements(row["settlements"]),
            from_transactions(row["transactions"]),
        )

    async def audit(self) -> Audit:
        """Look over the books of all tenants. What does not balance is found again by every later look."""
        async with self._database.system() as connection:
            row: Any = await connection.fetchrow(AUDIT, self._balanced_until, FIRST_LOOK)
        if not row["imbalance"]:
            self._balanced_until = row["looked_at"] - OVERLAP
        return Audit(NanoUsd(row["imbalance"]), NanoUsd(row["drift"]), NanoUsd(row["held"]), NanoUsd(row["spent"]))


def _from_account_row(row: Row) -> OpenAccount:
    known = row["state"] is not None
    reservation = from_reservation_row(row, row["tenant_id"], row["request_id"]) if known else None
    return OpenAccount(reservation, frozenset(row["settled"]), NanoUsd(row["paid"]))
