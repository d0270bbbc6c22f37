"""Writes postings: everything that several requests change in the books, in two statements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from metering.domain.ledger import Transaction
from metering.domain.settlement import WHOLE_REQUEST, Posting, Settlement, Story

CLOSING = frozenset({Story.SETTLED, Story.LATE, Story.EXPIRED})

# Its parts change different tables, so their order does not matter; foreign keys are checked when all of it is done.
# Settlements of calls are final (a trigger), only attempt 0 is ever replaced; a transaction that is in the ledger
# already breaks its unique key, and with it the whole batch.
POST = """
WITH made AS (
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
), booked AS (
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

# Budgets and sums of days, which requests share, come last, because whoever reserves waits from here to the commit.
CLOSE_AND_MOVE = "SELECT metering.close_and_move($1, $2, $3, $4, $5)"


async def write(connection: Any, postings: Iterable[Posting]) -> None:
    """Write postings whose accounts this transaction has opened."""
    changes = [posting for posting in postings if posting.settlements]
    if not changes:
        return
    transactions = [(posting, transaction) for posting in changes for transaction in posting.transactions]
    tables = (
        _unreserved(changes),
        [_to_settlement_row(posting, settlement) for posting in changes for settlement in posting.settlements],
        [_to_transaction_row(posting, transaction) for posting, transaction in transactions],
        [row for posting, transaction in transactions for row in _to_entry_rows(posting, transaction)],
    )
    await connection.execute(POST, *map(_to_json, tables))
    await connection.execute(CLOSE_AND_MOVE, _to_json(_closures(changes)), *_moves(changes), _to_json(_usage(changes)))


def _moves(postings: Sequence[Posting]) -> tuple[list[str], list[int], list[int]]:
    spent: defaultdict[str, int] = defaultdict(int)
    held: defaultdict[str, int] = defaultdict(int)
    for posting in postings:
        spent[posting.reservation.tenant_id] += posting.spent
        held[posting.reservation.tenant_id] += posting.held
    tenants = sorted(spent)
    return tenants, [spent[tenant_id] for tenant_id in tenants], [held[tenant_id] for tenant_id in tenants]


def _closures(postings: Sequence[Posting]) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": posting.reservation.tenant_id,
            "request_id": posting.reservation.request_id,
            "state": posting.reservation.state,
        }
        for posting in postings
        if posting.story in CLOSING
    ]


def _unreserved(postings: Sequence[Posting]) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": posting.reservation.tenant_id,
            "request_id": posting.reservation.request_id,
            "state": posting.reservation.state,
            "project_id": posting.project_id,
            "key_id": posting.key_id,
            "created_at": posting.reservation.created_at,
        }
        for posting in postings
        if posting.story is Story.UNRESERVED
    ]


def _to_settlement_row(posting: Posting, settlement: Settlement) -> dict[str, Any]:
    return {
        "tenant_id": posting.reservation.tenant_id,
        "request_id": posting.reservation.request_id,
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


def _usage(postings: Sequence[Posting]) -> list[dict[str, Any]]:
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for posting in postings:
        for settlement in posting.settlements:
            if settlement.attempt == WHOLE_REQUEST:
                continue
            key = (posting.reservation.tenant_id, settlement.settled_at.date().isoformat(), settlement.price_key)
            row = rows.setdefault(key, dict.fromkeys(("calls", "input_tokens", "output_tokens", "cost"), 0))
            row["calls"] += 1
            row["input_tokens"] += settlement.usage.input_tokens or 0
            row["output_tokens"] += settlement.usage.output_tokens or 0
            row["cost"] += settlement.cost
    return [
        {"tenant_id": tenant_id, "day": day, "price_key": price_key, **row}
        for (tenant_id, day, price_key), row in sorted(rows.items(), key=lambda item: item[0])
    ]


def _to_transaction_row(posting: Posting, transaction: Transaction) -> dict[str, Any]:
    return {
        "tenant_id": posting.reservation.tenant_id,
        "transaction_id": transaction.transaction_id,
        "request_id": posting.reservation.request_id,
        "attempt": transaction.attempt,
        "kind": transaction.cause,
        "created_at": transaction.created_at,
    }


def _to_entry_rows(posting: Posting, transaction: Transaction) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": posting.reservation.tenant_id,
            "transaction_id": transaction.transaction_id,
            "line": line,
            "account": entry.account,
            "amount": entry.amount,
            "price_version": entry.price_version,
            "created_at": transaction.created_at,
        }
        for line, entry in enumerate(transaction.entries, start=1)
    ]


def _to_json(rows: list[dict[str, Any]]) -> str:
    return orjson.dumps(rows).decode()
