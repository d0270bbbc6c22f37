"""Settle usage events.

A tenant is never charged more for a request than was held for it, in cost and counted exposure together. So a bill
always fits under the cap, and every settlement keeps `spent + held + exposed <= cap`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from values.money import ZERO, NanoUsd, class_costs, cost
from values.usage import NO_USAGE, UNKNOWN_USAGE, ExposureCause

from metering.budgets.model import Budget
from metering.ledger.model import Transaction, TransactionKind, post
from metering.reservations.model import FIRST_ATTEMPT, AnnouncedAttempt, Bound, Reservation, ReservationState
from metering.settlement.model import (
    ANNOUNCED,
    NO_EVENT,
    REQUEST_ATTEMPT,
    Attempt,
    LockedRequest,
    Outcome,
    SettledAttempt,
    Settlement,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
)
from metering.settlement.savings import cache_saved, right_sized

COUNTED_CAUSES: Final = frozenset({ExposureCause.CLIENT})
"""The default policy: what a tenant causes counts against its cap, the operator bears the rest."""


@dataclass(slots=True)
class RequestSettler:
    """Where calls of one request are settled: its reservation, the policy, and the time."""

    reservation: Reservation
    counted_causes: Collection[ExposureCause]
    now: datetime

    def settle(self, attempt: Attempt, payable: NanoUsd, event_id: str) -> Settlement:
        """Settle a call. The tenant is charged `payable` at most, in cost and counted exposure together."""
        bound = self._bound(attempt)
        usage = attempt.usage if bound is None else bound.clamp(attempt.usage)
        cause: ExposureCause | None = None
        tokens = usage.known
        if tokens is None:
            outcome, paid, cause = Outcome.EXPOSED, ZERO, attempt.cause
            exposed = NanoUsd(min(ZERO if bound is None else bound.cost, self.reservation.held))
        elif attempt.usage.known == (0, 0):
            outcome, paid, exposed = Outcome.RELEASED, ZERO, ZERO
        elif attempt.price is None:
            raise ValueError("a call without its price cannot be billed")
        else:
            bill = cost(*tokens, attempt.price, usage.details)
            outcome, paid, exposed = Outcome.BILLED, bill, ZERO
            if bill > payable:
                outcome, paid, exposed = (
                    Outcome.BILLED if payable else Outcome.EXPOSED,
                    payable,
                    NanoUsd(bill - payable),
                )
                cause = ExposureCause.PROVIDER
        counted = ZERO
        if cause is not None and cause in self.counted_causes:
            counted = NanoUsd(min(exposed, payable - paid))
        return Settlement(
            attempt.number,
            outcome,
            usage,
            attempt.price_key,
            attempt.price_version,
            paid,
            exposed,
            event_id,
            self.now,
            cause,
            counted,
            None if usage is attempt.usage else attempt.usage,
            cache=attempt.cache,
            saved=cache_saved(attempt, usage, paid),
            classes=() if attempt.price is None else class_costs(usage, attempt.price, paid),
            right_sizing=right_sized(attempt, usage, paid, payable),
        )

    def settle_announced(self, announced: AnnouncedAttempt, payable: NanoUsd) -> Settlement:
        """Settle a call of which no event tells: by the usage that was announced, else as an estimate at its bound."""
        price = self.reservation.bounds[announced.bound].row.price
        usage = announced.usage or UNKNOWN_USAGE
        attempt = Attempt(announced.number, price.key, price.version, usage, price, announced.cause, announced.cache)
        return self.settle(attempt, payable, NO_EVENT if usage.known is None else ANNOUNCED)

    def post(self, settlement: Settlement) -> list[Transaction]:
        """Make the ledger's transaction for a settlement."""
        is_estimate = settlement.event_id == NO_EVENT
        return post(
            settlement.attempt,
            TransactionKind.EXPIRY if is_estimate else TransactionKind.SETTLEMENT,
            owed=settlement.cost,
            exposed=settlement.exposed,
            now=self.now,
            price_version=settlement.price_version or None,
        )

    def _bound(self, attempt: Attempt) -> Bound | None:
        """Return the bound of the call; for a key that was not reserved, the largest counts at the dearest price."""
        bound = self.reservation.find_bound(attempt.number, attempt.price_key)
        if bound is not None or not self.reservation.bounds:
            return bound
        bounds = self.reservation.bounds
        dearest = max(bounds, key=lambda bound: bound.cost)
        return Bound(
            dearest.row, max(bound.input_tokens for bound in bounds), max(bound.output_tokens for bound in bounds)
        )


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
        event.cache,
        event.right_sizing,
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
