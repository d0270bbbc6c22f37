"""Exposures in Postgres: listed by partial indexes, closed under the locks of their request and budget."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from chassis.postgres import Database
from values.money import NanoUsd

from metering.budgets.postgres import row_to_budget
from metering.exposures.model import ReconcileRequest, RequestSettlement, SettlementFilter, SettlementPage
from metering.exposures.reconcile import ReconcileChanges, reconcile_settlement
from metering.ledger.postgres import entries_to_rows, transaction_to_row
from metering.reservations.model import RequestNotFound
from metering.settlement.rows import json_to_settlement

LOCK = "SELECT * FROM metering.lock_requests($1, $2, $3, true)"
READ = """
SELECT to_jsonb(s) FROM metering.settlements AS s WHERE s.tenant_id = $1 AND s.request_id = $2 AND s.attempt = $3
"""
# The conditions are those of the partial indexes.
LISTS = {
    SettlementFilter.OPEN_EXPOSURE: "s.exposed > 0 AND s.reconciliation IS NULL",
    SettlementFilter.USAGE_CLAMPED: "s.usage_clamped",
}
LIST = """
SELECT s.request_id, to_jsonb(s) AS settlement FROM metering.settlements AS s
WHERE s.tenant_id = $1 AND {condition} AND ($3 = '' OR (s.settled_at, s.request_id, s.attempt) < (
    SELECT a.settled_at, a.request_id, a.attempt FROM metering.settlements AS a
    WHERE a.tenant_id = $1 AND a.request_id = $3 AND a.attempt = $4
))
ORDER BY s.settled_at DESC, s.request_id DESC, s.attempt DESC LIMIT $2
"""
WRITE = "SELECT metering.reconcile_exposure($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"


class PostgresExposureStore:
    def __init__(self, database: Database, default_cap: NanoUsd) -> None:
        self._database = database
        self._default_cap = default_cap

    async def list(self, tenant_id: str, page: SettlementPage) -> tuple[Sequence[RequestSettlement], bool]:
        query = LIST.format(condition=LISTS[page.filter])
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(query, tenant_id, page.limit + 1, page.after_request_id, page.after_attempt)
        return [_row_to_settlement(tenant_id, row) for row in rows[: page.limit]], len(rows) > page.limit

    async def reconcile(self, request: ReconcileRequest) -> RequestSettlement:
        key = (request.tenant_id, request.request_id)
        async with self._database.tenant(request.tenant_id) as connection:
            (row,) = await connection.fetch(LOCK, [key[0]], [key[1]], self._default_cap)
            if row["state"] is None:
                raise RequestNotFound(f"there is no request {request.request_id}", param="request_id")
            text = await connection.fetchval(READ, *key, request.attempt)
            settlement = None if text is None else json_to_settlement(orjson.loads(text))
            changes = reconcile_settlement(request, settlement, row_to_budget(row), row["locked_at"])
            if changes is not None:
                await connection.execute(WRITE, *_changes_to_arguments(key, changes))
                settlement = changes.settlement
        assert settlement is not None  # noqa: S101 - reconcile_settlement has refused that
        return RequestSettlement(*key, settlement)


def _changes_to_arguments(key: tuple[str, str], changes: ReconcileChanges) -> list[Any]:
    settlement, reconciliation = changes.settlement, changes.settlement.reconciliation
    assert reconciliation is not None  # noqa: S101 - it was just made
    return [
        *key,
        settlement.attempt,
        reconciliation.decision,
        reconciliation.cost,
        reconciliation.key_id,
        reconciliation.note,
        orjson.dumps([transaction_to_row(*key, changes.transaction)]).decode(),
        orjson.dumps(entries_to_rows(key[0], changes.transaction)).decode(),
        changes.exposed,
    ]


def _row_to_settlement(tenant_id: str, row: Mapping[str, Any]) -> RequestSettlement:
    return RequestSettlement(tenant_id, row["request_id"], json_to_settlement(orjson.loads(row["settlement"])))
