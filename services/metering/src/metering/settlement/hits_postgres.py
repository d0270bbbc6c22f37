"""Answers of the cache in Postgres: one statement settles many requests, another changes what they share."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from chassis.ids import new_id

from metering.settlement.hits import Hit, Hits, settled_at
from metering.settlement.model import SettlementChanges
from metering.settlement.rows import (
    changes_to_adjustments,
    changes_to_cache_rows,
    changes_to_usage_rows,
    settlement_to_row,
)

FINISH = "SELECT metering.finish_settlement($1, $2, $3, $4, $5, $6, $7, $8)"
_INSERT_HITS = "SELECT * FROM metering.insert_hits($1, $2, $3, $4, $5, $6, $7)"
_SETTLE_HELD_HITS = "SELECT * FROM metering.settle_held_hits($1, $2, $3, $4, $5, $6)"


async def insert_hits(
    connection: Any, hits: Hits, free: Mapping[int, SettlementChanges], waiting: Sequence[Hit]
) -> tuple[list[SettlementChanges], list[Hit]]:
    """Settle those that are new, in the transaction; return what changed, and the hits that are on record."""
    (row,) = await connection.fetch(
        _INSERT_HITS,
        [hits.answers[hit.answer].tenant_id for hit in waiting],
        [hit.request_id for hit in waiting],
        [hit.project_id for hit in waiting],
        [hit.key_id for hit in waiting],
        [hits.answers[hit.answer].event_id for hit in waiting],
        [hit.answer for hit in waiting],
        _answers_to_json(free),
    )
    inserted = row["places"] or []
    if inserted:
        settled = {place: settled_at(changes, row["inserted_at"]) for place, changes in free.items()}
        changes = [settled[waiting[place - 1].answer] for place in inserted]
        usage, cache = rows_to_json(changes_to_usage_rows(changes)), rows_to_json(changes_to_cache_rows(changes))
        await connection.execute(FINISH, "[]", [], [], [], [], usage, cache, "[]")
    known = set(range(1, len(waiting) + 1)).difference(inserted)
    return changes if inserted else [], [waiting[place - 1] for place in sorted(known)]


async def settle_held_hits(
    connection: Any, hits: Hits, held: Mapping[int, SettlementChanges], holding: Sequence[Hit]
) -> tuple[list[SettlementChanges], list[Hit]]:
    """Settle those that hold their price, in the transaction; return what changed, and the other hits."""
    tenants = [hits.answers[hit.answer].tenant_id for hit in holding]
    (row,) = await connection.fetch(
        _SETTLE_HELD_HITS,
        tenants,
        [hit.request_id for hit in holding],
        [hits.answers[hit.answer].event_id for hit in holding],
        [hit.answer for hit in holding],
        [new_id("txn_") for _ in holding],
        _answers_to_json(held),
    )
    settled = {place: settled_at(changes, row["settled_at"]) for place, changes in held.items()}
    changes = [settled[holding[place - 1].answer] for place in row["places"]]
    if changes:
        released: dict[str, int] = {}
        for place, amount in zip(row["places"], row["held_amounts"], strict=True):
            released[tenants[place - 1]] = released.get(tenants[place - 1], 0) - amount
        owners, spent, _, exposed = changes_to_adjustments(changes)
        amounts = (owners, spent, [released[tenant_id] for tenant_id in owners], exposed)
        usage, cache = rows_to_json(changes_to_usage_rows(changes)), rows_to_json(changes_to_cache_rows(changes))
        await connection.execute(FINISH, "[]", *amounts, usage, cache, "[]")
    left = set(range(1, len(holding) + 1)).difference(row["places"])
    return changes, [holding[place - 1] for place in sorted(left)]


def _answers_to_json(answers: Mapping[int, SettlementChanges]) -> str:
    return rows_to_json(
        [
            {**settlement_to_row(changes.reservation, changes.settlements[0]), "answer": place}
            for place, changes in answers.items()
        ]
    )


def rows_to_json(rows: list[dict[str, Any]]) -> str:
    """For a parameter of the type jsonb."""
    return orjson.dumps(rows).decode()
