"""Answers of the cache, settled many at a time: requests that reserved and pay nothing, or that hold their price."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from values.money import ZERO, cost

from metering.reservations.model import FIRST_ATTEMPT, Reservation, ReservationState
from metering.settlement.model import LockedRequest, SettlementChanges, UsageEvent
from metering.settlement.settle import settle


class Hit(NamedTuple):
    """A request that got a cached answer; `answer` is its place in `Hits.answers`."""

    request_id: str
    project_id: str
    key_id: str
    answer: int


class Hits(NamedTuple):
    """Requests and what they got. An answer is the event of one of its requests, which stands for all of them."""

    answers: Sequence[UsageEvent]
    hits: Sequence[Hit]

    def event_of(self, hit: Hit) -> UsageEvent:
        """Return the event of a hit, as if it were recorded by itself."""
        return replace(
            self.answers[hit.answer], request_id=hit.request_id, project_id=hit.project_id, key_id=hit.key_id
        )


def settle_answer(answer: UsageEvent, now: datetime) -> SettlementChanges | None:
    """Settle a request that got this answer and is not on record yet; None unless that costs nothing."""
    changes = settle(answer, LockedRequest(), ZERO, now)
    is_free = not changes.transactions and len(changes.settlements) == 1 and changes.settlements[0].cache is not None
    return changes if is_free else None


def settle_held_answer(answer: UsageEvent, now: datetime) -> SettlementChanges | None:
    """Settle a request that got this answer and holds its price, or more; None unless it is billed for it."""
    if len(answer.attempts) != 1:
        return None
    (attempt,) = answer.attempts
    tokens, price = attempt.usage.known, attempt.price
    if tokens is None or price is None or attempt.cache is None or attempt.number != FIRST_ATTEMPT:
        return None
    held = cost(*tokens, price, attempt.usage.details)
    if not held:
        return None
    reservation = Reservation(answer.tenant_id, answer.request_id, ReservationState.HELD, held, (), now, now)
    return settle(answer, LockedRequest(reservation), ZERO, now)


def settled_at(changes: SettlementChanges, time: datetime) -> SettlementChanges:
    """Return the same changes at another time."""
    settlements = tuple(replace(one, settled_at=time) for one in changes.settlements)
    return replace(changes, settlements=settlements)
