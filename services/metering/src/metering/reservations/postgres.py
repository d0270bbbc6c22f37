"""Reservations in Postgres, by group commit: requests that wait while a transaction commits share the next one."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any

import orjson
from chassis.errors import ArgosyError
from chassis.postgres import Database, GroupCommit
from values.money import NanoUsd, Price

from metering.budgets.postgres import row_to_budget
from metering.metrics import RESERVE_BATCH, RESERVE_SECONDS
from metering.prices.model import PriceRow
from metering.reservations.model import Bound, PricedReservation, Reservation, ReservationState, ReserveResult
from metering.reservations.reserve import to_result

RESERVE = "SELECT * FROM metering.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9)"
# A transaction costs as much as several of its items, so under load batches begin this far apart. A lone request does
# not wait.
BATCH_INTERVAL = timedelta(milliseconds=2)
PRICE_FIELDS = ("price_key", "version", "input_per_million", "output_per_million", "effective_at", "tenant_id")


class PostgresReservationStore:
    def __init__(self, database: Database, default_cap: NanoUsd, max_batch: int) -> None:
        self._database = database
        self._default_cap = default_cap
        self._group: GroupCommit[PricedReservation, ReserveResult] = GroupCommit(
            self._commit, max_batch=max_batch, interval=BATCH_INTERVAL
        )

    async def reserve(self, priced: PricedReservation) -> ReserveResult:
        return await self._group.submit(priced)

    async def _commit(self, batch: list[PricedReservation]) -> list[ReserveResult | ArgosyError]:
        started = perf_counter()
        requests = [priced.request for priced in batch]
        rows = await self._database.system().fetch(
            RESERVE,
            [request.tenant_id for request in requests],
            [request.request_id for request in requests],
            [priced.amount for priced in batch],
            [request.lease for request in requests],
            [bounds_to_json(priced.bounds) for priced in batch],
            [request.project_id for request in requests],
            [request.key_id for request in requests],
            [request.user_id for request in requests],
            self._default_cap,
        )
        RESERVE_BATCH.observe(len(batch))
        RESERVE_SECONDS.observe(perf_counter() - started)
        return [_row_to_result(priced, row) for priced, row in zip(batch, rows, strict=True)]


def _row_to_result(priced: PricedReservation, row: Mapping[str, Any]) -> ReserveResult | ArgosyError:
    outcome, budget, request = row["outcome"], row_to_budget(row), priced.request
    if outcome == "held":
        # The bounds are those of the request: parsing them would be work for nothing.
        reservation = Reservation(
            request.tenant_id,
            request.request_id,
            ReservationState.HELD,
            row["held"],
            priced.bounds,
            row["created_at"],
            row["expires_at"],
        )
        return ReserveResult(reservation, budget, repeated=False)
    existing = None if outcome == "refused" else row_to_reservation(row, request.tenant_id, request.request_id)
    return to_result(priced, existing, budget, repeated=outcome == "repeated")


def row_to_reservation(row: Mapping[str, Any], tenant_id: str, request_id: str) -> Reservation:
    return Reservation(
        tenant_id,
        request_id,
        ReservationState(row["state"]),
        NanoUsd(row["held"]),
        json_to_bounds(row["bounds"]),
        row["created_at"],
        row["expires_at"],
    )


def bounds_to_json(bounds: Sequence[Bound]) -> str:
    """Write bounds with all of their price, so that a reservation is billed without reading the price book."""
    items = (
        f'{{"input_tokens":{bound.input_tokens},"output_tokens":{bound.output_tokens},{_price_to_json(bound.row)}}}'
        for bound in bounds
    )
    return f"[{','.join(items)}]"


def json_to_bounds(text: str) -> tuple[Bound, ...]:
    return tuple(
        Bound(_json_to_price(*map(item.__getitem__, PRICE_FIELDS)), item["input_tokens"], item["output_tokens"])
        for item in orjson.loads(text)
    )


# Cached, because many reservations have the same few prices.
@lru_cache(maxsize=1024)
def _price_to_json(row: PriceRow) -> str:
    fields = dict(zip(PRICE_FIELDS, (*row.price, row.effective_at, row.tenant_id), strict=True))
    return orjson.dumps(fields).decode()[1:-1]


@lru_cache(maxsize=1024)
def _json_to_price(*fields: Any) -> PriceRow:
    *price, effective_at, tenant_id = fields
    return PriceRow(Price(*price), datetime.fromisoformat(effective_at), tenant_id)
