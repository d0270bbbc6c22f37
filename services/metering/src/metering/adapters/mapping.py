"""Between rows and the domain. Bounds are kept as JSON with the whole price, so that a hold explains itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from metering.domain.budgets import Budget
from metering.domain.ledger import Account, Cause, Entry, Transaction
from metering.domain.money import NanoUsd
from metering.domain.prices import Price
from metering.domain.reservations import Bound, Reservation, State
from metering.domain.settlement import Outcome, Settlement
from metering.domain.usage import Source, Usage

Row = Mapping[str, Any]
PRICE_FIELDS = ("price_key", "version", "input_per_million", "output_per_million", "effective_at", "tenant_id")


def to_bounds(bounds: Sequence[Bound]) -> str:
    """Write bounds as JSON."""
    items = (
        f'{{"input_tokens":{bound.input_tokens},"output_tokens":{bound.output_tokens},{_to_price_fields(bound.price)}}}'
        for bound in bounds
    )
    return f"[{','.join(items)}]"


def from_bounds(text: str) -> tuple[Bound, ...]:
    """Read bounds from JSON."""
    return tuple(
        Bound(_from_price_fields(*map(item.__getitem__, PRICE_FIELDS)), item["input_tokens"], item["output_tokens"])
        for item in orjson.loads(text)
    )


# Few prices stand behind many reservations.
@lru_cache(maxsize=1024)
def _to_price_fields(price: Price) -> str:
    fields = {name: getattr(price, name) for name in PRICE_FIELDS}
    return orjson.dumps(fields).decode()[1:-1]


@lru_cache(maxsize=1024)
def _from_price_fields(*fields: Any) -> Price:
    row = dict(zip(PRICE_FIELDS, fields, strict=True))
    return from_price_row({**row, "effective_at": datetime.fromisoformat(row["effective_at"])})


def from_price_row(row: Row) -> Price:
    """Read a row of the price book."""
    return Price(
        row["price_key"],
        row["version"],
        NanoUsd(row["input_per_million"]),
        NanoUsd(row["output_per_million"]),
        row["effective_at"],
        row["tenant_id"],
    )


def from_reservation_row(row: Row, tenant_id: str, request_id: str) -> Reservation:
    """Read a reservation."""
    return Reservation(
        tenant_id,
        request_id,
        State(row["state"]),
        NanoUsd(row["held"]),
        from_bounds(row["bounds"]),
        row["created_at"],
        row["expires_at"],
    )


def from_budget_row(row: Row) -> Budget:
    """Read the budget beside an account, where `held` is the reservation's."""
    return Budget(NanoUsd(row["cap"]), NanoUsd(row["spent"]), NanoUsd(row["budget_held"]))


def from_settlements(text: str) -> tuple[Settlement, ...]:
    """Read settlements from JSON rows."""
    return tuple(
        Settlement(
            item["attempt"],
            Outcome(item["outcome"]),
            Usage(Source(item["usage_source"]), item["input_tokens"], item["output_tokens"]),
            item["price_key"],
            item["price_version"],
            NanoUsd(item["cost"]),
            NanoUsd(item["exposed"]),
            item["event_id"],
            datetime.fromisoformat(item["settled_at"]),
        )
        for item in orjson.loads(text)
    )


def from_transactions(text: str) -> tuple[Transaction, ...]:
    """Read ledger transactions with their lines from JSON rows."""
    return tuple(
        Transaction(
            item["transaction_id"],
            item["attempt"],
            Cause(item["kind"]),
            tuple(
                Entry(Account(line["account"]), NanoUsd(line["amount"]), line["price_version"])
                for line in item["entries"]
            ),
            datetime.fromisoformat(item["created_at"]),
        )
        for item in orjson.loads(text)
    )
