"""Announce a provider call before it begins, so that whatever dies, it is known which calls a provider may have had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chassis.errors import InvalidRequest
from values.money import ZERO, NanoUsd
from values.usage import ExposureCause, TokenUsage

from metering.budgets.model import Budget, BudgetSpent
from metering.reservations.model import (
    FIRST_ATTEMPT,
    MAX_STARTED_ATTEMPTS,
    AnnouncedAttempt,
    Bound,
    RequestIdReused,
    RequestNotFound,
    Reservation,
    ReservationClosed,
    ReservationState,
    is_valid_id,
)


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """A provider call that ended before the announced one begins."""

    number: int
    price_key: str
    usage: TokenUsage
    cause: ExposureCause


@dataclass(frozen=True, slots=True)
class StartedAttempt:
    """Attempt `number` of a request is about to begin on the candidate at the place `bound` of its bounds."""

    tenant_id: str
    request_id: str
    number: int
    bound: int
    ended: Sequence[EndedAttempt] = ()


class AttemptStore(Protocol):
    async def start_attempt(self, started: StartedAttempt) -> Reservation:
        """Record the attempt and raise what is held, durably, or change nothing. Raises what `announce` raises."""


async def start_attempt(started: StartedAttempt, *, attempts: AttemptStore) -> Reservation:
    """Announce an attempt. Safe to repeat. Raises `InvalidRequest`, and what `announce` raises."""
    if not is_valid_id(started.request_id):
        raise RequestNotFound("there is no such request", param="request_id")
    if not FIRST_ATTEMPT < started.number <= MAX_STARTED_ATTEMPTS:
        raise InvalidRequest(f"attempt must be between 2 and {MAX_STARTED_ATTEMPTS}", param="attempt")
    if not all(FIRST_ATTEMPT <= ended.number < started.number for ended in started.ended):
        raise InvalidRequest("ended attempts come before the attempt that starts", param="ended")
    return await attempts.start_attempt(started)


def announce(started: StartedAttempt, reservation: Reservation | None, budget: Budget) -> Reservation:
    """Return the reservation with the attempt on record, holding enough for it and all before it.

    Raises `RequestNotFound`, `ReservationClosed`, `RequestIdReused`, `BudgetSpent`, and `InvalidRequest` for a bound
    that the reservation does not have.
    """
    if reservation is None:
        raise RequestNotFound(f"there is no request {started.request_id}", param="request_id")
    if reservation.state is not ReservationState.HELD:
        raise ReservationClosed(f"the reservation is {reservation.state}", param="request_id")
    if not 0 <= started.bound < len(reservation.bounds):
        raise InvalidRequest("the reservation has no such bound", param="bound")
    records = _merge(started, reservation)
    attempts = tuple(records[number] for number in sorted(records))
    held = NanoUsd(max(reservation.held, needed(attempts, reservation.bounds)))
    if held - reservation.held > budget.available:
        raise BudgetSpent(
            f"the attempt needs {held - reservation.held} nano-USD more and the budget has {budget.available} left"
        )
    return replace(reservation, attempts=attempts, held=held)


def needed(attempts: Sequence[AnnouncedAttempt], bounds: Sequence[Bound]) -> NanoUsd:
    """Sum what all attempts but the newest cost at most, and the dearest candidate from the newest one's on.

    Candidates are tried in their order, so the newest attempt or one after it answers. Attempts that have not ended, or
    whose usage is unknown, count with all of their bound.
    """
    newest = max(attempts, key=lambda attempt: attempt.number)
    past = sum(bounds[attempt.bound].max_cost(attempt.usage) for attempt in attempts if attempt is not newest)
    return NanoUsd(past + max((bound.cost for bound in bounds[newest.bound :]), default=ZERO))


def _merge(started: StartedAttempt, reservation: Reservation) -> Mapping[int, AnnouncedAttempt]:
    records = {attempt.number: attempt for attempt in reservation.attempts}
    records.setdefault(FIRST_ATTEMPT, AnnouncedAttempt(FIRST_ATTEMPT, 0))
    for ended in started.ended:
        record = records.get(ended.number)
        if record is None or record.usage is None:  # what was said first stands
            records[ended.number] = _end(ended, record, reservation)
    existing = records.get(started.number)
    if existing is None:
        records[started.number] = AnnouncedAttempt(started.number, started.bound)
    elif _key(reservation, existing.bound) != _key(reservation, started.bound):
        raise RequestIdReused("the attempt was announced on another candidate before", param="bound")
    return records


def _end(ended: EndedAttempt, record: AnnouncedAttempt | None, reservation: Reservation) -> AnnouncedAttempt:
    if record is not None and _key(reservation, record.bound) == ended.price_key:
        place: int | None = record.bound
    else:
        place = reservation.dearest_place(ended.price_key)
    if place is None:
        raise InvalidRequest("an ended attempt has a price key that was not reserved", param="ended.price_key")
    return AnnouncedAttempt(ended.number, place, ended.usage, ended.cause)


def _key(reservation: Reservation, place: int) -> str:
    return reservation.bounds[place].row.price.key
