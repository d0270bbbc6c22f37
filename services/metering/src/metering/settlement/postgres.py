"""Settlement in Postgres: requests are locked, settled by the rules of `settle`, and written, in one transaction.

Three round trips: lock (`lock_requests`), write what belongs to one request only (`INSERT_ROWS`), and change what
requests share (`finish_settlement`). The last one locks budgets, so reservations wait only from there to the commit.
The lock order is in migrations/functions/lock_budgets.sql.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

import orjson
from chassis.postgres import Database
from values.money import NanoUsd
from values.usage import TokenUsage, UsageSource

from metering.budgets.postgres import row_to_budget
from metering.ledger.postgres import entries_to_rows, json_to_transactions, transaction_to_row
from metering.metrics import SETTLE_BATCH, SETTLE_SECONDS
from metering.reservations.model import Reservation
from metering.reservations.postgres import row_to_reservation
from metering.settlement.expire import expire
from metering.settlement.model import (
    REQUEST_ATTEMPT,
    LockedRequest,
    Outcome,
    RequestNotFound,
    RequestStatement,
    Settlement,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
)
from metering.settlement.settle import settle_all

LOCK = "SELECT * FROM metering.lock_requests($1, $2, $3)"
LOCK_OVERDUE = "SELECT * FROM metering.lock_overdue_requests($1, $2)"
FINISH = "SELECT metering.finish_settlement($1, $2, $3, $4, $5)"

# One statement, so that it reads all of the request as of one instant.
STATEMENT = """
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

# Its parts insert into different tables, so their order does not matter; foreign keys are checked at its end.
# A trigger keeps settlements of calls final, so only attempt 0 is ever replaced. A transaction that is in the ledger
# already violates its unique key, which fails the whole batch.
INSERT_ROWS = """
WITH unreserved AS (
    INSERT INTO metering.reservations
        (tenant_id, request_id, state, held, bounds, project_id, key_id, created_at, expires_at, closed_at)
    SELECT tenant_id, request_id, state, 0, '[]', project_id, key_id, created_at, created_at, now()
    FROM jsonb_to_recordset($1::jsonb) AS m (
        tenant_id text, request_id text, state text, project_id text, key_id text, created_at timestamptz
    )
), settled AS (
    INSERT INTO metering.settlements AS s (
        tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key, price_version,
        cost, exposed, event_id, settled_at
    )
    SELECT tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key, price_version,
           cost, exposed, event_id, settled_at
    FROM jsonb_to_recordset($2::jsonb) AS n (
        tenant_id text, request_id text, attempt integer, outcome text, usage_source text, input_tokens bigint,
        output_tokens bigint, price_key text, price_version text, cost bigint, exposed bigint, event_id text,
        settled_at timestamptz
    )
    ON CONFLICT (tenant_id, request_id, attempt) DO UPDATE SET
        outcome = excluded.outcome, usage_source = excluded.usage_source, input_tokens = excluded.input_tokens,
        output_tokens = excluded.output_tokens, exposed = excluded.exposed, event_id = excluded.event_id,
        settled_at = excluded.settled_at
), posted AS (
    INSERT INTO metering.ledger_transactions (tenant_id, transaction_id, request_id, attempt, kind, created_at)
    SELECT tenant_id, transaction_id, request_id, attempt, kind, created_at
    FROM jsonb_to_recordset($3::jsonb) AS t (
        tenant_id text, transaction_id text, request_id text, attempt integer, kind text, created_at timestamptz
    )
)
INSERT INTO metering.ledger_entries (tenant_id, transaction_id, line, account, amount, price_version, created_at)
SELECT tenant_id, transaction_id, line, account, amount, price_version, created_at
FROM jsonb_to_recordset($4::jsonb) AS e (
    tenant_id text, transaction_id text, line smallint, account text, amount bigint, price_version text,
    created_at timestamptz
)
"""

CLOSING_CASES = frozenset({SettlementCase.SETTLED, SettlementCase.LATE, SettlementCase.EXPIRED})


class PostgresSettlementStore:
    """Settles and expires requests of many tenants in one transaction; reads statements of one tenant."""

    def __init__(self, database: Database, default_cap: NanoUsd) -> None:
        self._database = database
        self._default_cap = default_cap

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        started = perf_counter()
        tenants = [event.tenant_id for event in events]
        requests = [event.request_id for event in events]
        async with self._database.system() as connection:
            rows = await connection.fetch(LOCK, tenants, requests, self._default_cap)
            locked = {(row["tenant_id"], row["request_id"]): _row_to_locked_request(row) for row in rows}
            budgets = {row["tenant_id"]: row_to_budget(row) for row in rows}
            changes = settle_all(events, locked, budgets, rows[0]["locked_at"]) if rows else []
            await _write(connection, changes)
        SETTLE_BATCH.observe(len(events))
        SETTLE_SECONDS.observe(perf_counter() - started)
        return changes

    async def expire(self, limit: int) -> Sequence[Reservation]:
        async with self._database.system() as connection:
            rows = await connection.fetch(LOCK_OVERDUE, limit, self._default_cap)
            changes = [expire(_row_to_locked_request(row), row["locked_at"]) for row in rows]
            await _write(connection, changes)
        return [change.reservation for change in changes]

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        async with self._database.tenant(tenant_id) as connection:
            row: Any = await connection.fetchrow(STATEMENT, tenant_id, request_id)
        if row is None:
            raise RequestNotFound(f"there is no request {request_id}", param="request_id")
        return RequestStatement(
            row_to_reservation(row, tenant_id, request_id),
            _json_to_settlements(row["settlements"]),
            json_to_transactions(row["transactions"]),
        )


async def _write(connection: Any, all_changes: Sequence[SettlementChanges]) -> None:
    changes = [change for change in all_changes if change.settlements]
    if not changes:
        return
    transactions = [(change.reservation, transaction) for change in changes for transaction in change.transactions]
    tables = (
        [_unreserved_to_row(change) for change in changes if change.case is SettlementCase.UNRESERVED],
        [_settlement_to_row(change.reservation, settlement) for change in changes for settlement in change.settlements],
        [transaction_to_row(owner.tenant_id, owner.request_id, transaction) for owner, transaction in transactions],
        [row for owner, transaction in transactions for row in entries_to_rows(owner.tenant_id, transaction)],
    )
    await connection.execute(INSERT_ROWS, *map(_to_json, tables))
    closures = [_closure_to_row(change.reservation) for change in changes if change.case in CLOSING_CASES]
    await connection.execute(FINISH, _to_json(closures), *_adjustments(changes), _to_json(_usage_rows(changes)))


def _adjustments(changes: Sequence[SettlementChanges]) -> tuple[list[str], list[int], list[int]]:
    """Sum what to add to `spent` and `held` of each tenant's budget."""
    spent: defaultdict[str, int] = defaultdict(int)
    held: defaultdict[str, int] = defaultdict(int)
    for change in changes:
        spent[change.reservation.tenant_id] += change.spent
        held[change.reservation.tenant_id] += change.held
    tenants = sorted(spent)
    return tenants, [spent[tenant_id] for tenant_id in tenants], [held[tenant_id] for tenant_id in tenants]


def _usage_rows(changes: Sequence[SettlementChanges]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for change in changes:
        for settlement in change.settlements:
            if settlement.attempt == REQUEST_ATTEMPT:
                continue
            key = (change.reservation.tenant_id, settlement.settled_at.date().isoformat(), settlement.price_key)
            row = rows.setdefault(key, dict.fromkeys(("calls", "input_tokens", "output_tokens", "cost"), 0))
            row["calls"] += 1
            row["input_tokens"] += settlement.usage.input_tokens or 0
            row["output_tokens"] += settlement.usage.output_tokens or 0
            row["cost"] += settlement.cost
    return [
        {"tenant_id": tenant_id, "day": day, "price_key": price_key, **row}
        for (tenant_id, day, price_key), row in sorted(rows.items(), key=lambda item: item[0])
    ]


def _closure_to_row(reservation: Reservation) -> dict[str, Any]:
    return {"tenant_id": reservation.tenant_id, "request_id": reservation.request_id, "state": reservation.state}


def _unreserved_to_row(change: SettlementChanges) -> dict[str, Any]:
    return _closure_to_row(change.reservation) | {
        "project_id": change.project_id,
        "key_id": change.key_id,
        "created_at": change.reservation.created_at,
    }


def _settlement_to_row(reservation: Reservation, settlement: Settlement) -> dict[str, Any]:
    return {
        "tenant_id": reservation.tenant_id,
        "request_id": reservation.request_id,
        "attempt": settlement.attempt,
        "outcome": settlement.outcome,
        "usage_source": settlement.usage.source,
        "input_tokens": settlement.usage.input_tokens,
        "output_tokens": settlement.usage.output_tokens,
        "price_key": settlement.price_key,
        "price_version": settlement.price_version,
        "cost": settlement.cost,
        "exposed": settlement.exposed,
        "event_id": settlement.event_id,
        "settled_at": settlement.settled_at,
    }


def _row_to_locked_request(row: Mapping[str, Any]) -> LockedRequest:
    exists = row["state"] is not None
    reservation = row_to_reservation(row, row["tenant_id"], row["request_id"]) if exists else None
    return LockedRequest(reservation, frozenset(row["settled"]), NanoUsd(row["paid"]))


def _json_to_settlements(text: str) -> tuple[Settlement, ...]:
    return tuple(
        Settlement(
            item["attempt"],
            Outcome(item["outcome"]),
            TokenUsage(UsageSource(item["usage_source"]), item["input_tokens"], item["output_tokens"]),
            item["price_key"],
            item["price_version"],
            NanoUsd(item["cost"]),
            NanoUsd(item["exposed"]),
            item["event_id"],
            datetime.fromisoformat(item["settled_at"]),
        )
        for item in orjson.loads(text)
    )


def _to_json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
