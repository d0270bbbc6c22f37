"""Reservations: the most that a request can cost is held before the request is sent to a provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from chassis.errors import ArgosyError, Kind
from values.money import NO_CLASS_ABSENT, ZERO, NanoUsd, cost, max_cost
from values.usage import AbsentClasses, CacheOutcome, ExposureCause, TokenUsage

from metering.budgets.model import Budget
from metering.prices.model import PriceRow

MAX_BOUNDS = 64
MAX_STARTED_ATTEMPTS = 1_000
FIRST_ATTEMPT = 1
"""The attempt that a reservation stands for; later ones are announced."""
MAX_ID_CHARACTERS = 128
MIN_LEASE = timedelta(seconds=1)


class RequestNotFound(ArgosyError):
    """The tenant has no request with this id."""

    kind, reason = Kind.NOT_FOUND, "REQUEST_NOT_FOUND"


class ReservationClosed(ArgosyError):
    """This request was settled, or its lease expired: its money is not held any more. Use a new request id."""

    kind, reason = Kind.CONFLICT, "RESERVATION_CLOSED"


class RequestIdReused(ArgosyError):
    """This request id has a reservation with other bounds, or this attempt another bound; a repeat must be the same."""

    kind, reason = Kind.CONFLICT, "REQUEST_ID_REUSED"


class ReservationState(StrEnum):
    HELD = "held"
    SETTLED = "settled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one candidate can consume, and its price at the time of the reservation."""

    row: PriceRow
    input_tokens: int
    output_tokens: int
    absent: AbsentClasses = NO_CLASS_ABSENT

    @property
    def cost(self) -> NanoUsd:
        """Every token at the price of its dearest class that can occur."""
        return max_cost(self.input_tokens, self.output_tokens, self.row.price, self.absent)

    def clamp(self, usage: TokenUsage) -> TokenUsage:
        """Take usage at the bound where it is above it; return the same object where it is not."""
        return usage.clamped(self.input_tokens, self.output_tokens)

    def max_cost(self, usage: TokenUsage | None) -> NanoUsd:
        """Return the most that a call with this usage can cost: all of the bound where the usage is not known."""
        within = None if usage is None else self.clamp(usage)
        if within is None or within.known is None:
            return self.cost
        return cost(*within.known, self.row.price, within.details)

    @property
    def requested(self) -> tuple[str, int, int]:
        """The bound as the caller sent it, without the price."""
        return self.row.price.key, self.input_tokens, self.output_tokens


@dataclass(frozen=True, slots=True)
class ReserveRequest:
    """`bounds` are (price key, input tokens, output tokens), one per candidate."""

    tenant_id: str
    request_id: str
    bounds: Sequence[tuple[str, int, int]]
    lease: timedelta
    project_id: str = ""
    key_id: str = ""
    user_id: str = ""
    discount_percent: int = 0
    """Taken off the prices."""
    absent: Sequence[AbsentClasses] = ()
    """Of each bound, in their order; empty: every class can occur."""


@dataclass(frozen=True, slots=True)
class PricedReservation:
    """A valid request and its bounds with their prices; the budget decides on it."""

    request: ReserveRequest
    bounds: tuple[Bound, ...]

    @property
    def amount(self) -> NanoUsd:
        """The most expensive candidate: one of them will answer, and it is not known yet which."""
        return max((bound.cost for bound in self.bounds), default=ZERO)


class RequestRef(NamedTuple):
    """Which request, of which tenant."""

    tenant_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class AnnouncedAttempt:
    """A provider call on record; `bound` is the place of its bound.

    Without `usage` it has not ended, as far as metering knows. `cause` is whose doing an unknown usage is. `cache` is
    how the cache answered, if no provider was called.
    """

    number: int
    bound: int
    usage: TokenUsage | None = None
    cause: ExposureCause = ExposureCause.FLEET
    cache: CacheOutcome | None = None


@dataclass(frozen=True, slots=True)
class Reservation:
    """`held` is the most that was set aside, whatever the state. A request that never reserved has no bounds.

    `attempts` are the announced ones, by number; empty while one call at most can have been made.
    """

    tenant_id: str
    request_id: str
    state: ReservationState
    held: NanoUsd
    bounds: tuple[Bound, ...]
    created_at: datetime
    expires_at: datetime
    attempts: tuple[AnnouncedAttempt, ...] = ()

    def with_state(self, state: ReservationState) -> Reservation:
        return Reservation(
            self.tenant_id,
            self.request_id,
            state,
            self.held,
            self.bounds,
            self.created_at,
            self.expires_at,
            self.attempts,
        )

    @property
    def possible_attempts(self) -> tuple[AnnouncedAttempt, ...]:
        """Calls that a provider may have had: the announced ones, or the first call on the first candidate."""
        return self.attempts or ((AnnouncedAttempt(FIRST_ATTEMPT, 0),) if self.bounds else ())

    def find_bound(self, number: int, price_key: str) -> Bound | None:
        """Return the bound of a call: the announced one, or the dearest with its key."""
        if not self.attempts and number == FIRST_ATTEMPT and self.bounds and self.bounds[0].row.price.key == price_key:
            return self.bounds[0]
        for attempt in self.attempts:
            if attempt.number == number and self.bounds[attempt.bound].row.price.key == price_key:
                return self.bounds[attempt.bound]
        place = self.dearest_place(price_key)
        return None if place is None else self.bounds[place]

    def dearest_place(self, price_key: str) -> int | None:
        """Return the place of the dearest bound with this key."""
        places = [place for place, bound in enumerate(self.bounds) if bound.row.price.key == price_key]
        return max(places, key=lambda place: self.bounds[place].cost, default=None)


@dataclass(frozen=True, slots=True)
class ReserveResult:
    """The reservation, and the budget after it. `repeated`: the request had this reservation already."""

    reservation: Reservation
    budget: Budget
    repeated: bool


def is_valid_id(text: str) -> bool:
    """Whether Postgres can store this id: not empty, not long, without control characters."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()
