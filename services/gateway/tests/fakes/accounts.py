"""Metering in memory."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from chassis.errors import Kind, RemoteError
from chassis.tenancy import current_caller
from gateway.domain.accounts import (
    Budget,
    LedgerEntry,
    Outcome,
    Price,
    RequestAccount,
    Reservation,
    ReservationState,
    Settlement,
    Usage,
    UsageRow,
)
from gateway.domain.inference import Tokens
from gateway.domain.money import NanoUsd

MADE = datetime(2026, 1, 2, tzinfo=UTC)


def an_account(request_id: str, *, settled: bool = True) -> RequestAccount:
    """The account of a request: two attempts, of which the second was billed."""
    reservation = Reservation(NanoUsd(900), ReservationState.HELD, MADE, MADE + timedelta(minutes=10))
    if not settled:
        return RequestAccount(request_id, reservation, [], [])
    unknown, counted = Tokens(None, None), Tokens(3, 0)
    return RequestAccount(
        request_id,
        replace(reservation, state=ReservationState.SETTLED),
        [
            Settlement(1, Outcome.EXPOSED, unknown, "unknown", "far/m", "prc_1", NanoUsd(0), MADE),
            Settlement(2, Outcome.BILLED, counted, "counted", "local/m", "prc_2", NanoUsd(700), MADE),
        ],
        [
            LedgerEntry("txn_1", "receivable", NanoUsd(700), MADE),
            LedgerEntry("txn_1", "revenue", NanoUsd(-700), MADE),
        ],
    )


class FakeAccounts:
    """`Accounts`, by tenant."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str], RequestAccount] = {}
        self.budgets: dict[str, Budget] = {}
        self.book: dict[str, Price] = {}
        self.spans: list[tuple[datetime | None, datetime | None, bool]] = []

    async def usage(self, start: datetime | None, end: datetime | None, *, by_day: bool) -> Usage:
        current_caller()
        self.spans.append((start, end, by_day))
        row = UsageRow(MADE if by_day else None, "local/m", 2, 10, 20, NanoUsd(4_500))
        return Usage([row], NanoUsd(4_500))

    async def request(self, request_id: str) -> RequestAccount:
        found = self.requests.get((current_caller().principal.tenant_id, request_id))
        if found is None:
            raise RemoteError(Kind.NOT_FOUND, "REQUEST_NOT_FOUND", f"There is no request {request_id}.")
        return found

    async def budget(self) -> Budget:
        return self._budget_of(current_caller().principal.tenant_id)

    async def set_budget(self, tenant_id: str, cap: NanoUsd) -> Budget:
        current_caller().principal.require("admin")
        self.budgets[tenant_id] = replace(self._budget_of(tenant_id), cap=cap)
        return self.budgets[tenant_id]

    async def prices(self) -> Sequence[Price]:
        return [self.book[key] for key in sorted(self.book)]

    async def set_price(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        current_caller().principal.require("admin")
        version = f"prc_{len(self.book)}"
        self.book[price_key] = Price(price_key, version, input_per_million, output_per_million, MADE)
        return self.book[price_key]

    def _budget_of(self, tenant_id: str) -> Budget:
        return self.budgets.get(tenant_id, Budget(NanoUsd(100_000_000_000), NanoUsd(25), NanoUsd(0)))
