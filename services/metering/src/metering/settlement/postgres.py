"""Settlement in Postgres: requests are locked, settled by the rules of `settle`, and written, in one transaction.

Three round trips: lock (`lock_requests`), write what belongs to one request only (`INSERT_ROWS`), and change what
requests share (`finish_settlement`). The last one locks budgets, so reservations wait only from there to the commit.
The lock order is in migrations/functions/lock_budgets.sql.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import orjson
from chassis.postgres import Database
from values.money import NanoUsd
from values.usage import ExposureCause

from metering.budgets.postgres import row_to_budget
from metering.ledger.postgres import entries_to_rows, json_to_transactions, transaction_to_row
from metering.metrics import SETTLE_BATCH, SETTLE_SECONDS
from metering.reservations.model import RequestNotFound, RequestRef
from metering.reservations.postgres import row_to_reservation
from metering.settlement.expire import expire
from metering.settlement.hits import Hit, Hits, settle_answer, settled_at
from metering.settlement.model import (
    LockedRequest,
    RequestStatement,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
)
from metering.settlement.rows import (
    changes_to_adjustments,
    changes_to_cache_rows,
    changes_to_right_sizing_rows,
    changes_to_usage_rows,
    closure_to_row,
    json_to_settled,
    json_to_settlements,
    settlement_to_row,
    unreserved_to_row,
)
from metering.settlement.settle import COUNTED_CAUSES, settle_all

LOCK = "SELECT * FROM metering.lock_requests($1, $2, $3)"
LOCK_OVERDUE = "SELECT * FROM metering.lock_overdue_requests($1, $2, $3)"
FINISH = "SELECT metering.finish_settlement($1, $2, $3, $4, $5, $6, $7, $8)"

INSERT_HITS = "SELECT * FROM metering.insert_hits($1, $2, $3, $4, $5, $6, $7)"

# One statement, so that it reads all of the request as of one instant.
STATEMENT = """
SELECT r.state, r.held, r.bounds, r.attempts, r.created_at, r.expires_at,
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
# New reservations are made by key, as the lock order asks (lock_budgets.sql).
# A trigger keeps settlements final, so only estimates are ever replaced. A transaction that is in the ledger
# already violates its unique key, which fails the whole batch.
INSERT_ROWS = """
WITH unreserved AS (
    INSERT INTO metering.reservations
        (tenant_id, request_id, state, held, bounds, project_id, key_id, created_at, expires_at, closed_at)
    SELECT tenant_id, request_id, state, 0, '[]', project_id, key_id, created_at, created_at, now()
    FROM jsonb_to_recordset($1::jsonb) AS m (
        tenant_id text, request_id text, state text, project_id text, key_id text, created_at timestamptz
    )
    ORDER BY tenant_id, request_id
), settled AS (
    INSERT INTO metering.settlements AS s (
        tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key, price_version,
        cost, exposed, exposure_cause, counted, usage_clamped, reported_input_tokens, reported_output_tokens, event_id,
        settled_at, cache, saved, input_cost, classes, alternative_key, alternative_version, right_sizing_saved
    )
    SELECT tenant_id, request_id, attempt, outcome, usage_source, input_tokens, output_tokens, price_key, price_version,
           cost, exposed, coalesce(exposure_cause, ''), coalesce(counted, 0), coalesce(usage_clamped, false),
           reported_input_tokens, reported_output_tokens, event_id, settled_at, coalesce(cache, ''), coalesce(saved, 0),
           input_cost, classes, alternative_key, alternative_version, right_sizing_saved
    FROM jsonb_to_recordset($2::jsonb) AS n (
        tenant_id text, request_id text, attempt integer, outcome text, usage_source text, input_tokens bigint,
        output_tokens bigint, price_key text, price_version text, cost bigint, exposed bigint, exposure_cause text,
        counted bigint, usage_clamped boolean, reported_input_tokens bigint, reported_output_tokens bigint,
        event_id text, settled_at timestamptz, cache text, saved bigint, input_cost bigint, classes jsonb,
        alternative_key text, alternative_version text, right_sizing_saved bigint
    )
    ON CONFLICT (tenant_id, request_id, attempt) DO UPDATE SET
        outcome = excluded.outcome, usage_source = excluded.usage_source, input_tokens = excluded.input_tokens,
        output_tokens = excluded.output_tokens, price_key = excluded.price_key, price_version = excluded.price_version,
        cost = excluded.cost, exposed = excluded.exposed, exposure_cause = excluded.exposure_cause,
        counted = excluded.counted, usage_clamped = excluded.usage_clamped,
        reported_input_tokens = excluded.reported_input_tokens,
        reported_output_tokens = excluded.reported_output_tokens,
        event_id = excluded.event_id, settled_at = excluded.settled_at, cache = excluded.cache, saved = excluded.saved,
        input_cost = excluded.input_cost, classes = excluded.classes, alternative_key = excluded.alternative_key,
        alternative_version = excluded.alternative_version, right_sizing_saved = excluded.right_sizing_saved
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

    def __init__(
        self,
        database: Database,
        default_cap: NanoUsd,
        counted_causes: Collection[ExposureCause] = COUNTED_CAUSES,
    ) -> None:
        self._database = database
        self._default_cap = default_cap
        self._counted_causes = counted_causes

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        started = perf_counter()
        tenants = [event.tenant_id for event in events]
        requests = [event.request_id for event in events]
        async with self._database.system() as connection:
            rows = await connection.fetch(LOCK, tenants, requests, self._default_cap)
            locked = {(row["tenant_id"], row["request_id"]): _row_to_locked_request(row) for row in rows}
            budgets = {row["tenant_id"]: row_to_budget(row) for row in rows}
            now = rows[0]["locked_at"] if rows else None
            changes = settle_all(events, locked, budgets, now, self._counted_causes) if now else []
            await _write(connection, changes)
        SETTLE_BATCH.observe(len(events))
        SETTLE_SECONDS.observe(perf_counter() - started)
        return changes

    async def settle_hits(self, hits: Hits) -> Sequence[SettlementChanges]:
        started = perf_counter()
        now = datetime.now(UTC)  # until the database says its own
        answers = {place: settle_answer(answer, now) for place, answer in enumerate(hits.answers)}
        free = {place: changes for place, changes in answers.items() if changes is not None}
        waiting = [hit for hit in hits.hits if hit.answer in free]
        others = [hit for hit in hits.hits if hit.answer not in free]
        changes: list[SettlementChanges] = []
        if waiting:
            changes, known = await self._insert_hits(hits, free, waiting)
            others += known
        SETTLE_BATCH.observe(len(hits.hits))
        SETTLE_SECONDS.observe(perf_counter() - started)
        # Rare: records that are delivered again, and requests that metering has on record for another reason.
        return [*changes, *(await self.settle(list(map(hits.event_of, others))) if others else ())]

    async def _insert_hits(
        self, hits: Hits, free: Mapping[int, SettlementChanges], waiting: Sequence[Hit]
    ) -> tuple[list[SettlementChanges], list[Hit]]:
        """Settle those that are new, in one transaction; return what changed, and the hits that are on record."""
        rows = [
            {**settlement_to_row(changes.reservation, changes.settlements[0]), "answer": place}
            for place, changes in free.items()
        ]
        async with self._database.system() as connection:
            (row,) = await connection.fetch(
                INSERT_HITS,
                [hits.answers[hit.answer].tenant_id for hit in waiting],
                [hit.request_id for hit in waiting],
                [hit.project_id for hit in waiting],
                [hit.key_id for hit in waiting],
                [hits.answers[hit.answer].event_id for hit in waiting],
                [hit.answer for hit in waiting],
                _to_json(rows),
            )
            inserted = row["places"] or []
            if inserted:
                settled = {place: settled_at(changes, row["inserted_at"]) for place, changes in free.items()}
                changes = [settled[waiting[place - 1].answer] for place in inserted]
                usage, cache = _to_json(changes_to_usage_rows(changes)), _to_json(changes_to_cache_rows(changes))
                await connection.execute(FINISH, "[]", [], [], [], [], usage, cache, "[]")
        known = set(range(1, len(waiting) + 1)).difference(inserted)
        return changes if inserted else [], [waiting[place - 1] for place in sorted(known)]

    async def expire(self, requests: Sequence[RequestRef]) -> Sequence[SettlementChanges]:
        async with self._database.system() as connection:
            rows = await connection.fetch(LOCK_OVERDUE, *zip(*requests, strict=True), self._default_cap)
            changes = [expire(_row_to_locked_request(row), row["locked_at"], self._counted_causes) for row in rows]
            await _write(connection, changes)
        return changes

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        async with self._database.tenant(tenant_id) as connection:
            row: Any = await connection.fetchrow(STATEMENT, tenant_id, request_id)
        if row is None:
            raise RequestNotFound(f"there is no request {request_id}", param="request_id")
        return RequestStatement(
            row_to_reservation(row, tenant_id, request_id),
            json_to_settlements(row["settlements"]),
            json_to_transactions(row["transactions"]),
        )


async def _write(connection: Any, all_changes: Sequence[SettlementChanges]) -> None:
    changes = [change for change in all_changes if change.settlements]
    if not changes:
        return
    transactions = [(change.reservation, transaction) for change in changes for transaction in change.transactions]
    tables = (
        [unreserved_to_row(change) for change in changes if change.case is SettlementCase.UNRESERVED],
        [settlement_to_row(change.reservation, settlement) for change in changes for settlement in change.settlements],
        [transaction_to_row(owner.tenant_id, owner.request_id, transaction) for owner, transaction in transactions],
        [row for owner, transaction in transactions for row in entries_to_rows(owner.tenant_id, transaction)],
    )
    await connection.execute(INSERT_ROWS, *map(_to_json, tables))
    closures = [closure_to_row(change.reservation) for change in changes if change.case in CLOSING_CASES]
    sums = (changes_to_usage_rows, changes_to_cache_rows, changes_to_right_sizing_rows)
    rows = [_to_json(sum_up(changes)) for sum_up in sums]
    await connection.execute(FINISH, _to_json(closures), *changes_to_adjustments(changes), *rows)


def _row_to_locked_request(row: Mapping[str, Any]) -> LockedRequest:
    exists = row["state"] is not None
    reservation = row_to_reservation(row, row["tenant_id"], row["request_id"]) if exists else None
    return LockedRequest(reservation, json_to_settled(row["settlements"]))


def _to_json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
