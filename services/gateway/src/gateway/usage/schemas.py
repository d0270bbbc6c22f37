"""`/v1/usage`, `/v1/budgets` and `/v1/requests/{id}`: what the tenant used, may spend, and was billed."""

from datetime import datetime
from typing import Annotated, Literal, Self

from chassis.errors import InvalidRequest
from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.domain.accounts import (
    Budget,
    LedgerEntry,
    Outcome,
    RequestAccount,
    Reservation,
    ReservationState,
    Settlement,
    UsageRow,
)
from gateway.domain.money import to_usd

from .ports import AccountsPort, CurrentCaller, PathId
from .schemas import Moment

router = APIRouter(prefix="/v1", tags=["Account"])


class UsageRowRead(BaseModel):
    """What was used of one price key, in one day or over the whole span."""

    object: Literal["usage"] = "usage"
    day: int | None
    price_key: str
    calls: int
    input_tokens: int
    output_tokens: int
    cost_usd: str

    @classmethod
    def of(cls, row: UsageRow) -> Self:
        """Show a row."""
        return cls(
            day=int(row.day.timestamp()) if row.day else None,
            price_key=row.price_key,
            calls=row.calls,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_usd=to_usd(row.cost),
        )


class UsageRead(BaseModel):
    """Rows by day and price key, and their sum."""

    object: Literal["list"] = "list"
    data: list[UsageRowRead]
    total_usd: str
    has_more: Literal[False] = False


class ReservationRead(BaseModel):
    """Money set aside before the call."""

    held_usd: str
    state: ReservationState
    created_at: int
    expires_at: int

    @classmethod
    def of(cls, reservation: Reservation) -> Self:
        """Show a reservation."""
        return cls(
            held_usd=to_usd(reservation.held),
            state=reservation.state,
            created_at=int(reservation.created_at.timestamp()),
            expires_at=int(reservation.expires_at.timestamp()),
        )


class SettledUsage(BaseModel):
    """What a provider call consumed, and how that was learnt; null is unknown."""

    input_tokens: int | None
    output_tokens: int | None
    source: str


class SettlementRead(BaseModel):
    """The end of one provider call in the books; attempt 0 speaks for a request without one."""

    attempt: int
    outcome: Outcome
    usage: SettledUsage
    price_key: str
    price_version: str
    cost_usd: str
    cost_nano_usd: int
    settled_at: int

    @classmethod
    def of(cls, settlement: Settlement) -> Self:
        """Show a settlement."""
        tokens = settlement.tokens
        return cls(
            attempt=settlement.attempt,
            outcome=settlement.outcome,
            usage=SettledUsage(input_tokens=tokens.input, output_tokens=tokens.output, source=settlement.tokens_from),
            price_key=settlement.price_key,
            price_version=settlement.price_version,
            cost_usd=to_usd(settlement.cost),
            cost_nano_usd=settlement.cost,
            settled_at=int(settlement.settled_at.timestamp()),
        )


class LedgerEntryRead(BaseModel):
    """One line of the ledger; a debit is positive."""

    transaction_id: str
    account: str
    amount_usd: str
    amount_nano_usd: int
    created_at: int

    @classmethod
    def of(cls, entry: LedgerEntry) -> Self:
        """Show a line."""
        return cls(
            transaction_id=entry.transaction_id,
            account=entry.account,
            amount_usd=to_usd(entry.amount),
            amount_nano_usd=entry.amount,
            created_at=int(entry.created_at.timestamp()),
        )


class RequestRead(BaseModel):
    """The whole account of one request. `cost_usd` is null until it is settled; `ledger_entries` sum to zero."""

    id: str
    object: Literal["request"] = "request"
    cost_usd: str | None
    cost_nano_usd: int | None
    reservation: ReservationRead
    settlements: list[SettlementRead]
    ledger_entries: list[LedgerEntryRead]

    @classmethod
    def of(cls, account: RequestAccount) -> Self:
        """Show an account."""
        return cls(
            id=account.request_id,
            cost_usd=None if account.cost is None else to_usd(account.cost),
            cost_nano_usd=account.cost,
            reservation=ReservationRead.of(account.reservation),
            settlements=[SettlementRead.of(settlement) for settlement in account.settlements],
            ledger_entries=[LedgerEntryRead.of(entry) for entry in account.entries],
        )


class BudgetRead(BaseModel):
    """A limit on what a tenant may spend: spent + held never exceeds cap."""

    object: Literal["budget"] = "budget"
    tenant_id: str
    cap_usd: str
    spent_usd: str
    held_usd: str

    @classmethod
    def of(cls, tenant_id: str, budget: Budget) -> Self:
        """Show a budget."""
        return cls(
            tenant_id=tenant_id,
            cap_usd=to_usd(budget.cap),
            spent_usd=to_usd(budget.spent),
            held_usd=to_usd(budget.held),
        )


class BudgetList(BaseModel):
    """The limits on what the tenant may spend."""

    object: Literal["list"] = "list"
    data: list[BudgetRead]
    has_more: Literal[False] = False


Instant = Annotated[Moment | None, Query(description="RFC 3339, or seconds since 1970.")]


@router.get("/usage")
async def get_usage(
    accounts: AccountsPort, start: Instant = None, end: Instant = None, *, by_day: bool = False
) -> UsageRead:
    """Sum up what was used: from `start` on, until before `end`."""
    refuse_empty_span(start, end)
    usage = await accounts.usage(start, end, by_day=by_day)
    return UsageRead(data=[UsageRowRead.of(row) for row in usage.rows], total_usd=to_usd(usage.total))


@router.get("/budgets")
async def list_budgets(accounts: AccountsPort, caller: CurrentCaller) -> BudgetList:
    """Read what may be spent, is spent, and is set aside."""
    return BudgetList(data=[BudgetRead.of(caller.principal.tenant_id, await accounts.budget())])


@router.get("/requests/{request_id}")
async def get_request(request_id: PathId, accounts: AccountsPort) -> RequestRead:
    """Read the account of one request: what was held, how each call was settled, what stands in the ledger."""
    return RequestRead.of(await accounts.request(request_id))


def refuse_empty_span(start: datetime | None, end: datetime | None) -> None:
    """Raises InvalidRequest."""
    if start is not None and end is not None and end <= start:
        raise InvalidRequest("end must lie after start.", param="end")
