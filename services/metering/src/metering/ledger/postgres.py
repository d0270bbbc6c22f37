"""The ledger in Postgres: its rows, and the audit. The settlement that posts a transaction also writes its rows."""

from datetime import datetime, timedelta
from typing import Any

import orjson
from chassis.postgres import Database
from values.money import NanoUsd

from metering.ledger.audit import AuditResult
from metering.ledger.model import Account, Entry, Transaction, TransactionKind

# Only transactions since the last audit: older ones summed to zero, and cannot have changed since. Rows have the time
# at which their transaction began, so audits overlap by more than a transaction can last.
FIRST_AUDIT = timedelta(minutes=15)
OVERLAP = timedelta(minutes=1)
AUDIT = """
SELECT
    (
        SELECT coalesce(sum(abs(t.total)), 0) FROM (
            SELECT sum(e.amount) AS total FROM metering.ledger_entries AS e
            WHERE e.created_at > coalesce($1, now() - $2::interval) GROUP BY e.tenant_id, e.transaction_id
        ) AS t
    )::bigint AS imbalance,
    coalesce(sum(abs(b.held - coalesce(r.held, 0)) + abs(b.exposed - coalesce(x.counted, 0))), 0)::bigint AS drift,
    least(coalesce(sum(b.held), 0), 9223372036854775807)::bigint AS held,
    least(coalesce(sum(b.spent), 0), 9223372036854775807)::bigint AS spent,
    least(coalesce(sum(b.exposed), 0), 9223372036854775807)::bigint AS exposed,
    now() AS audited_at
FROM metering.budgets AS b
LEFT JOIN (
    SELECT tenant_id, sum(held) AS held FROM metering.reservations WHERE state = 'held' GROUP BY tenant_id
) AS r ON r.tenant_id = b.tenant_id
LEFT JOIN (
    SELECT tenant_id, sum(counted) AS counted FROM metering.settlements
    WHERE exposed > 0 AND reconciliation IS NULL GROUP BY tenant_id
) AS x ON x.tenant_id = b.tenant_id
WHERE b.scope = 'tenant'
"""


class PostgresLedgerAudit:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._balanced_until: datetime | None = None

    async def audit(self) -> AuditResult:
        """Audit all tenants. A transaction that does not balance is found again by every later audit."""
        async with self._database.system() as connection:
            row: Any = await connection.fetchrow(AUDIT, self._balanced_until, FIRST_AUDIT)
        if not row["imbalance"]:
            self._balanced_until = row["audited_at"] - OVERLAP
        return AuditResult(*(NanoUsd(row[name]) for name in ("imbalance", "drift", "held", "spent", "exposed")))


def transaction_to_row(tenant_id: str, request_id: str, transaction: Transaction) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id,
        "transaction_id": transaction.transaction_id,
        "request_id": request_id,
        "attempt": transaction.attempt,
        "kind": transaction.kind,
        "created_at": transaction.created_at,
    }


def entries_to_rows(tenant_id: str, transaction: Transaction) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": tenant_id,
            "transaction_id": transaction.transaction_id,
            "line": line,
            "account": entry.account,
            "amount": entry.amount,
            "price_version": entry.price_version,
            "created_at": transaction.created_at,
        }
        for line, entry in enumerate(transaction.entries, start=1)
    ]


def json_to_transactions(text: str) -> tuple[Transaction, ...]:
    """Read rows of transactions with their entries."""
    return tuple(
        Transaction(
            item["transaction_id"],
            item["attempt"],
            TransactionKind(item["kind"]),
            tuple(
                Entry(Account(line["account"]), NanoUsd(line["amount"]), line["price_version"])
                for line in item["entries"]
            ),
            datetime.fromisoformat(item["created_at"]),
        )
        for item in orjson.loads(text)
    )
