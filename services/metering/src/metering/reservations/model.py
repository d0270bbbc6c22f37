"""Reservations: the most that a request can cost is held before the request is sent to a provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.money import ZERO, NanoUsd, cost

from metering.budgets.model import Budget
from metering.prices.model import PriceRow

MAX_BOUNDS = 64
MAX_ID_CHARACTERS = 128
MIN_LEASE = timedelta(seconds=1)


class ReservationClosed(ArgosyError):
    """This request was settled, or its lease expired: its money is not held any more. Use a new request id."""

    kind, reason = Kind.CONFLICT, "RESERVATION_CLOSED"


class RequestIdReused(ArgosyError):
    """This request id has a reservation with other bounds; a repeat must have the same bounds."""

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

    @property
    def cost(self) -> NanoUsd:
        return cost(self.input_tokens, self.output_tokens, self.row.price)

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


@dataclass(frozen=True, slots=True)
class PricedReservation:
    """A valid request and its bounds with their prices; the budget decides on it."""

    request: ReserveRequest
    bounds: tuple[Bound, ...]

    @property
    def amount(self) -> NanoUsd:
        """The most expensive candidate: one of them will answer, and it is not known yet which."""
        return max((bound.cost for bound in self.bounds), default=ZERO)


@dataclass(frozen=True, slots=True)
class Reservation:
    """`held` is the amount at first, whatever the state. A request that never reserved has no bounds."""

    tenant_id: str
    request_id: str
    state: ReservationState
    held: NanoUsd
    bounds: tuple[Bound, ...]
    created_at: datetime
    expires_at: datetime

    def with_state(self, state: ReservationState) -> Reservation:
        return Reservation(
            self.tenant_id, self.request_id, state, self.held, self.bounds, self.created_at, self.expires_at
        )

    def max_cost(self, price_key: str) -> NanoUsd:
        """Return the most that a call with this key can have cost; all that was held if no bound names the key."""
        return max((bound.cost for bound in self.bounds if bound.row.price.key == price_key), default=self.held)


@dataclass(frozen=True, slots=True)
class ReserveResult:
    """The reservation, and the budget after it. `repeated`: the request had this reservation already."""

    reservation: Reservation
    budget: Budget
    repeated: bool


def is_valid_id(text: str) -> bool:
    """Whether Postgres can store this id: not empty, not long, without control characters."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()
