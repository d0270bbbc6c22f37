"""Settlement in Postgres: requests are locked, settled by the rules of `settle`, and written, in one transaction.

Three round trips: lock (`lock_requests`), write what belongs to one request only (`INSERT_ROWS`), and change what
requests share (`finish_settlement`). The last one locks budgets, so reservations wait only from there to the commit.
The lock order is in migrations/functions/lock_budgets.sql.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from chassis.postgres import Database
from values.money import NanoUsd
from values.usage import ExposureCause

from metering.budgets.postgres import row_to_budget
from metering.ledger.postgres import entries_to_rows, json_to_transactions, transaction_to_row
from metering.metrics import SETTLE_BATCH, SETTLE_SECONDS
from metering.reservations.model import RequestNotFound, RequestRef
from metering.reservations.postgres import row_to_reservation
from metering.settlement.expire import expire
from metering.settlement.hits import (
    MAX_SETTLED_AT_ONCE,
    Hit,
    Hits,
    settle_answer,
    settle_held_answer,
    split_settled,
)
from metering.settlement.hits_postgres import FINISH, insert_hits, rows_to_json, settle_held_hits
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

FIND_SETTLED_HITS = "SELECT metering.find_settled_hits($1, $2, $3)"

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
        free, held = _answers(settle_answer, hits, now), _answers(settle_held_answer, hits, now)
        waiting = [hit for hit in hits.hits if hit.answer in free]
        holding = [hit for hit in hits.hits if hit.answer in held and hit.answer not in free]
        others = [hit for hit in hits.hits if hit.answer not in free and hit.answer not in held]
        changes: list[SettlementChanges] = []
        for settle, answers, part in ((insert_hits, free, waiting), (settle_held_hits, held, holding)):
            if part:
                async with self._database.system() as connection:
                    settled, left = await settle(connection, hits, answers, part)
                changes += settled
                others += left
        SETTLE_BATCH.observe(len(hits.hits))
        SETTLE_SECONDS.observe(perf_counter() - started)
        return [*changes, *(await self._settle_known(hits, others) if others else ())]

    async def _settle_known(self, hits: Hits, known: Sequence[Hit]) -> list[SettlementChanges]:
        """Leave requests that are settled already as they are; settle the others, which are few, by themselves."""
        async with self._database.system() as connection:
            settled = await connection.fetchval(FIND_SETTLED_HITS, *zip(*map(hits.call_of, known), strict=True))
        changes, left = split_settled(hits, known, settled)
        for start in range(0, len(left), MAX_SETTLED_AT_ONCE):
            changes += await self.settle(list(map(hits.event_of, left[start : start + MAX_SETTLED_AT_ONCE])))
        return changes

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
    await connection.execute(INSERT_ROWS, *map(rows_to_json, tables))
    closures = [closure_to_row(change.reservation) for change in changes if change.case in CLOSING_CASES]
    sums = (changes_to_usage_rows, changes_to_cache_rows, changes_to_right_sizing_rows)
    rows = [rows_to_json(sum_up(changes)) for sum_up in sums]
    await connection.execute(FINISH, rows_to_json(closures), *changes_to_adjustments(changes), *rows)


def _answers(
    settle: Callable[[UsageEvent, datetime], SettlementChanges | None], hits: Hits, now: datetime
) -> dict[int, SettlementChanges]:
    """Settle each answer once, for all of its requests; those that `settle` does not settle are left out."""
    settled = {place: settle(answer, now) for place, answer in enumerate(hits.answers)}
    return {place: changes for place, changes in settled.items() if changes is not None}


def _row_to_locked_request(row: Mapping[str, Any]) -> LockedRequest:
    exists = row["state"] is not None
    reservation = row_to_reservation(row, row["tenant_id"], row["request_id"]) if exists else None
    return LockedRequest(reservation, json_to_settled(row["settlements"]))
