"""Settle usage events.

A tenant never pays more for a request than was held for it; the excess is exposure. So a bill always fits under the
cap, and every settlement keeps `spent + held <= cap`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from values.money import ZERO, NanoUsd, cost
from values.usage import NO_USAGE

from metering.budgets.model import Budget
from metering.ledger.model import Transaction, TransactionKind
from metering.ledger.post import post
from metering.prices.cache import PriceCache
from metering.prices.model import PriceRow, UnknownPriceVersion
from metering.reservations.model import Reservation, ReservationState
from metering.settlement.model import (
    REQUEST_ATTEMPT,
    Attempt,
    LockedRequest,
    Outcome,
    RequestStatement,
    Settlement,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
)


class SettlementStore(Protocol):
    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        """Settle priced events in their order, in one transaction; calls that are settled already stay as they are.

        Safe to repeat, and to run in many consumers at once. Raises `Unavailable` when it must be tried again.
        """

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        """Raises `RequestNotFound`."""


async def attach_prices(event: UsageEvent, *, prices: PriceCache) -> UsageEvent:
    """Give each billable call its price. Raises `UnknownPriceVersion`: the event can never be settled."""
    versions = {attempt.price_version for attempt in event.attempts if attempt.is_billable}
    if not versions:
        return event
    rows = await prices.by_version(versions)
    attempts = tuple(_with_price(attempt, event.tenant_id, rows) for attempt in event.attempts)
    return UsageEvent(event.tenant_id, event.event_id, event.request_id, attempts, event.project_id, event.key_id)


def settle_all(
    events: Iterable[UsageEvent],
    requests: Mapping[tuple[str, str], LockedRequest],
    budgets: Mapping[str, Budget],
    now: datetime,
) -> list[SettlementChanges]:
    """Settle events in their order, each on the state that the ones before it left."""
    current_requests, current_budgets = dict(requests), dict(budgets)
    previous: dict[tuple[str, str], SettlementChanges] = {}
    all_changes = []
    for event in events:
        key, budget = (event.tenant_id, event.request_id), current_budgets[event.tenant_id]
        request = current_requests.get(key) or LockedRequest()
        if key in previous:  # rare: two events of one request in one batch
            request = current_requests[key] = previous[key].apply_to(request)
        changes = previous[key] = settle(event, request, budget.available, now)
        current_budgets[event.tenant_id] = budget.adjusted(spent=changes.spent, held=changes.held)
        all_changes.append(changes)
    return all_changes


def settle(event: UsageEvent, request: LockedRequest, available: NanoUsd, now: datetime) -> SettlementChanges:
    """Settle the calls of an event that are not settled yet; `available` is what the budget has left.

    What a request holds pays for its calls. If it holds nothing (its lease expired, or it never reserved), calls are
    paid as far as the budget has room.
    """
    reservation = request.reservation or _implicit_reservation(event, now)
    settlements, transactions = _settle_request(event, request, reservation, now)
    payable = _max_payable(request, available)
    for attempt in event.attempts:
        if attempt.number in request.settled:
            continue
        settlement = _settle_call(event, attempt, reservation, payable, now)
        payable = NanoUsd(payable - settlement.cost)
        settlements.append(settlement)
        transactions += post(
            settlement.attempt,
            TransactionKind.SETTLEMENT,
            owed=settlement.cost,
            exposed=settlement.exposed,
            now=now,
            price_version=settlement.price_version or None,
        )
    return SettlementChanges(
        _case(request, settlements),
        reservation.with_state(ReservationState.SETTLED),
        tuple(settlements),
        tuple(transactions),
        spent=NanoUsd(sum([settlement.cost for settlement in settlements])),
        held=NanoUsd(-reservation.held) if reservation.state is ReservationState.HELD else ZERO,
        project_id=event.project_id,
        key_id=event.key_id,
    )


def _max_payable(request: LockedRequest, available: NanoUsd) -> NanoUsd:
    reservation = request.reservation
    if reservation is None or not reservation.bounds:
        return available
    if reservation.state is ReservationState.HELD:
        return reservation.held
    return NanoUsd(max(0, min(reservation.held - request.paid, available)))


def _settle_request(
    event: UsageEvent, request: LockedRequest, reservation: Reservation, now: datetime
) -> tuple[list[Settlement], list[Transaction]]:
    """Settle attempt 0: reverse the exposure of an expired lease, or record that the request made no call."""
    expired = reservation.state is ReservationState.EXPIRED
    if not expired and (event.attempts or request.settled):
        return [], []
    released = Settlement(REQUEST_ATTEMPT, Outcome.RELEASED, NO_USAGE, "", "", ZERO, ZERO, event.event_id, now)
    reversal = NanoUsd(-reservation.held) if expired else ZERO
    return [released], post(REQUEST_ATTEMPT, TransactionKind.CORRECTION, owed=ZERO, exposed=reversal, now=now)


def _settle_call(
    event: UsageEvent, attempt: Attempt, reservation: Reservation, payable: NanoUsd, now: datetime
) -> Settlement:
    tokens = attempt.usage.known
    if tokens is None:
        outcome, paid, exposed = Outcome.EXPOSED, ZERO, reservation.max_cost(attempt.price_key)
    elif tokens == (0, 0):
        outcome, paid, exposed = Outcome.RELEASED, ZERO, ZERO
    elif attempt.price is None:
        raise ValueError("a call without its price cannot be billed")
    else:
        bill = cost(*tokens, attempt.price)
        paid = NanoUsd(min(bill, payable))
        exposed = NanoUsd(bill - paid)
        outcome = Outcome.EXPOSED if exposed and not paid else Outcome.BILLED
    return Settlement(
        attempt.number,
        outcome,
        attempt.usage,
        attempt.price_key,
        attempt.price_version,
        paid,
        exposed,
        event.event_id,
        now,
    )


def _implicit_reservation(event: UsageEvent, now: datetime) -> Reservation:
    """Stands for the reservation of a request that never reserved: it holds nothing and has no bounds."""
    return Reservation(event.tenant_id, event.request_id, ReservationState.SETTLED, ZERO, (), now, now)


def _case(request: LockedRequest, settlements: list[Settlement]) -> SettlementCase:
    if request.reservation is None:
        return SettlementCase.UNRESERVED
    if request.reservation.state is ReservationState.HELD:
        return SettlementCase.SETTLED
    if request.reservation.state is ReservationState.EXPIRED:
        return SettlementCase.LATE
    return SettlementCase.ADDED if settlements else SettlementCase.REPEATED


def _with_price(attempt: Attempt, tenant_id: str, rows: Mapping[str, PriceRow]) -> Attempt:
    if not attempt.is_billable:
        return attempt
    row = rows.get(attempt.price_version)
    if row is None or row.price.key != attempt.price_key or not row.applies_to(tenant_id):
        raise UnknownPriceVersion(f"{attempt.price_version!r} is no price of {attempt.price_key!r} for this tenant")
    return attempt.with_price(row.price)
