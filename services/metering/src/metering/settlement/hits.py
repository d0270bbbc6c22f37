"""Answers of the cache, settled many at a time: requests that reserved and pay nothing, or that hold their price."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

from values.money import ZERO, cost

from metering.reservations.model import FIRST_ATTEMPT, Reservation, ReservationState
from metering.settlement.model import LockedRequest, SettledAttempt, SettlementChanges, UsageEvent
from metering.settlement.settle import settle

MAX_SETTLED_AT_ONCE = 500
"""Requests that are on record for another reason, in one transaction: they lock budgets."""
_NEVER = datetime.min.replace(tzinfo=UTC)
"""What changes nothing has no time."""


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

    def call_of(self, hit: Hit) -> tuple[str, str, int]:
        """Return tenant, request, and the number of its only call; -1 for several."""
        answer = self.answers[hit.answer]
        return answer.tenant_id, hit.request_id, answer.attempts[0].number if len(answer.attempts) == 1 else -1

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


def split_settled(
    hits: Hits, known: Sequence[Hit], settled: Iterable[int]
) -> tuple[list[SettlementChanges], list[Hit]]:
    """Return the changes of those hits at the places `settled`, from 1, which are none; and the other hits.

    Their records were delivered again, as all that a consumer had in hand when it was stopped.
    """
    places = {place - 1 for place in settled}
    unchanged = {answer: _repeated(hits.answers[answer]) for answer in {known[place].answer for place in places}}
    changes = [unchanged[known[place].answer] for place in places]
    return changes, [hit for place, hit in enumerate(known) if place not in places]


def _repeated(answer: UsageEvent) -> SettlementChanges:
    """Settle a request once more that this answer has settled."""
    reservation = Reservation(answer.tenant_id, answer.request_id, ReservationState.SETTLED, ZERO, (), _NEVER, _NEVER)
    calls = tuple(SettledAttempt(call.number, ZERO, ZERO, ZERO, is_estimate=False) for call in answer.attempts)
    return settle(answer, LockedRequest(reservation, calls), ZERO, _NEVER)
