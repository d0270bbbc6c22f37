"""Settle usage events.

A tenant is never charged more for a request than was held for it, in cost and counted exposure together. So a bill
always fits under the cap, and every settlement keeps `spent + held + exposed <= cap`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from values.money import ZERO, NanoUsd
from values.usage import NO_USAGE, ExposureCause

from metering.budgets.model import Budget
from metering.ledger.model import Transaction, TransactionKind, post
from metering.prices.model import PriceCache, PriceRow, UnknownPriceVersion
from metering.reservations.model import FIRST_ATTEMPT, RequestRef, Reservation, ReservationState
from metering.settlement.call import COUNTED_CAUSES, RequestSettler
from metering.settlement.model import (
    NO_EVENT,
    REQUEST_ATTEMPT,
    Attempt,
    LockedRequest,
    Outcome,
    RequestStatement,
    SettledAttempt,
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

    async def expire(self, requests: Sequence[RequestRef]) -> Sequence[SettlementChanges]:
        """Expire those of the requests that are still held and whose lease is over by the database's clock, in one
        transaction. Replicas that call it at the same time expire different ones.
        """

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        """Raises `RequestNotFound`."""


async def attach_prices(event: UsageEvent, *, prices: PriceCache) -> UsageEvent:
    """Give each billable call its price. Raises `UnknownPriceVersion`: the event can never be settled."""
    versions = {attempt.price_version for attempt in event.attempts if attempt.is_billable}
    if not versions:
        return event
    rows = await prices.by_version(versions)
    return replace(event, attempts=tuple(_with_price(attempt, event.tenant_id, rows) for attempt in event.attempts))


def settle_all(
    events: Iterable[UsageEvent],
    requests: Mapping[tuple[str, str], LockedRequest],
    budgets: Mapping[str, Budget],
    now: datetime,
    counted_causes: Collection[ExposureCause] = COUNTED_CAUSES,
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
        changes = previous[key] = settle(event, request, budget.available, now, counted_causes)
        current_budgets[event.tenant_id] = budget.adjusted(
            spent=changes.spent, held=changes.held, exposed=changes.exposed
        )
        all_changes.append(changes)
    return all_changes


def settle(
    event: UsageEvent,
    request: LockedRequest,
    available: NanoUsd,
    now: datetime,
    counted_causes: Collection[ExposureCause] = COUNTED_CAUSES,
) -> SettlementChanges:
    """Settle the calls of an event that are not settled yet; `available` is what the budget has left.

    What a request holds pays for its calls. If it holds nothing (its lease expired, or it never reserved), calls are
    paid as far as the budget has room. Calls that were announced and that the event does not name are settled as well:
    a provider may have received them.
    """
    reservation = request.reservation or _implicit_reservation(event, now)
    settler = RequestSettler(reservation, counted_causes, now)
    replaced = _refuted_estimates(event, request, reservation) if request.settled else []
    payable = _max_payable(request, replaced, available)
    settlements: list[Settlement] = []
    for attempt in _unsettled(event, request):
        settlements.append(settler.settle(attempt, payable, event.event_id))
        payable = _less(payable, settlements[-1])
    if reservation.attempts and reservation.state is ReservationState.HELD:
        settlements += _settle_unnamed(event, reservation, settler, payable)
    transactions = [row for call in settlements for row in settler.post(call)]
    spent: int = sum([row.cost for row in settlements])
    counted: int = sum([row.counted for row in settlements])
    if replaced or not settlements:
        transactions = _reversals(replaced, now) + transactions
        settlements += _releases(event, request, replaced, settlements, now)
        counted -= sum([row.counted for row in replaced])
    return SettlementChanges(
        _case(request, settlements),
        reservation.with_state(ReservationState.SETTLED),
        tuple(settlements),
        tuple(transactions),
        NanoUsd(spent),
        NanoUsd(-reservation.held) if reservation.state is ReservationState.HELD else ZERO,
        NanoUsd(counted),
        event.project_id,
        event.key_id,
    )


def _settle_unnamed(
    event: UsageEvent, reservation: Reservation, settler: RequestSettler, payable: NanoUsd
) -> list[Settlement]:
    """Settle the announced calls that the event does not name."""
    named = {attempt.number for attempt in event.attempts}
    settlements: list[Settlement] = []
    for announced in reservation.attempts:
        if announced.number not in named:
            settlements.append(settler.settle_announced(announced, payable))
            payable = _less(payable, settlements[-1])
    return settlements


def _refuted_estimates(event: UsageEvent, request: LockedRequest, reservation: Reservation) -> list[SettledAttempt]:
    named = {attempt.number for attempt in event.attempts}
    return [row for row in request.settled if row.is_estimate and _is_refuted(row, named, reservation)]


def _unsettled(event: UsageEvent, request: LockedRequest) -> Sequence[Attempt]:
    """Return the calls of the event that have no final settlement."""
    if not request.settled:
        return event.attempts
    final = {row.attempt for row in request.settled if not row.is_estimate}
    return [attempt for attempt in event.attempts if attempt.number not in final]


def _is_refuted(estimate: SettledAttempt, named: Collection[int], reservation: Reservation) -> bool:
    """Whether the event says otherwise: it names the call, or the first call, which the lease implied, was not made."""
    if estimate.attempt in named:
        return True
    return estimate.attempt <= FIRST_ATTEMPT and estimate.exposed > 0 and not reservation.attempts


def _less(payable: NanoUsd, settlement: Settlement) -> NanoUsd:
    return NanoUsd(payable - settlement.cost - settlement.counted)


def _max_payable(request: LockedRequest, replaced: Iterable[SettledAttempt], available: NanoUsd) -> NanoUsd:
    reservation = request.reservation
    if reservation is not None and reservation.state is ReservationState.HELD:
        return reservation.held
    reversed_now = sum([row.counted for row in replaced])
    if reservation is None or not reservation.bounds:
        return NanoUsd(available + reversed_now)
    return NanoUsd(max(0, min(reservation.held - request.charged, available) + reversed_now))


def _reversals(replaced: Iterable[SettledAttempt], now: datetime) -> list[Transaction]:
    """Take the exposure of estimates back; an estimate never billed anything."""
    return [
        transaction
        for row in replaced
        for transaction in post(
            row.attempt, TransactionKind.CORRECTION, owed=ZERO, exposed=NanoUsd(-row.exposed), now=now
        )
    ]


def _releases(
    event: UsageEvent,
    request: LockedRequest,
    replaced: Iterable[SettledAttempt],
    settlements: Sequence[Settlement],
    now: datetime,
) -> list[Settlement]:
    """Release calls that were never made, or the request itself, as attempt 0, when it made no call."""
    named = {settlement.attempt for settlement in settlements}
    numbers = [row.attempt for row in replaced if row.attempt not in named]
    # They stay estimates: if another event names the call after all, it is settled.
    released = [(number, NO_EVENT) for number in numbers]
    if not settlements and not request.settled:
        released.append((REQUEST_ATTEMPT, event.event_id))
    return [
        Settlement(number, Outcome.RELEASED, NO_USAGE, "", "", ZERO, ZERO, event_id, now)
        for number, event_id in released
    ]


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
