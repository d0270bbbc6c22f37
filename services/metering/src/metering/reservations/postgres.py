"""Reservations in Postgres: what waits while one transaction commits goes together in the next one."""

from __future__ import annotations

from datetime import timedelta
from time import perf_counter

from chassis.errors import ArgosyError
from chassis.postgres import Database, GroupCommit

from metering.adapters.mapping import Row, from_budget_row, from_reservation_row, to_bounds
from metering.domain.money import NanoUsd
from metering.domain.reservations import Held, Hold, Reservation, State, answer
from metering.metrics import RESERVE_BATCH, RESERVE_SECONDS

RESERVE = "SELECT * FROM metering.reserve($1, $2, $3, $4, $5, $6, $7, $8, $9)"
# A transaction costs as much as several of its items, so under load they wait this long for company.
PACE = timedelta(milliseconds=2)


class PostgresReservations:
    """Decides in one function call over all that waits; tenants without a budget get `default_cap`."""

    def __init__(self, database: Database, default_cap: NanoUsd, max_batch: int) -> None:
        self._database = database
        self._default_cap = default_cap
        self._grouper: GroupCommit[Hold, Held] = GroupCommit(self._commit, max_batch=max_batch, pace=PACE)

    async def hold(self, hold: Hold) -> Held:
        """Set the money aside. Raises `BudgetSpent`, `ReservationClosed`, `RequestIdReused`, `Unavailable`."""
        return await self._grouper.submit(hold)

    async def _commit(self, holds: list[Hold]) -> list[Held | ArgosyError]:
        began = perf_counter()
        rows = await self._database.system().fetch(
            RESERVE,
            [hold.tenant_id for hold in holds],
            [hold.request_id for hold in holds],
            [hold.amount for hold in holds],
            [hold.lease for hold in holds],
            [to_bounds(hold.bounds) for hold in holds],
            [hold.project_id for hold in holds],
            [hold.key_id for hold in holds],
            [hold.user_id for hold in holds],
            self._default_cap,
        )
        RESERVE_BATCH.observe(len(holds))
        RESERVE_SECONDS.observe(perf_counter() - began)
        return [_answer(hold, row) for hold, row in zip(holds, rows, strict=True)]


def _answer(hold: Hold, row: Row) -> Held | ArgosyError:
    outcome, budget = row["outcome"], from_budget_row(row)
    if outcome == "held":
        times = row["created_at"], row["expires_at"]
        return Held(
            Reservation(hold.tenant_id, hold.request_id, State.HELD, row["held"], hold.bounds, *times), budget, False
        )
    reservation = None if outcome == "refused" else from_reservation_row(row, hold.tenant_id, hold.request_id)
    return answer(hold, reservation, budget, repeated=outcome == "repeated")
