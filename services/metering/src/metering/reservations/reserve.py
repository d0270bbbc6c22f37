"""Reserve before spend: the most that a request can cost is set aside before it is sent to any provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError, InvalidRequest, Kind

from metering.domain.budgets import Budget, BudgetSpent
from metering.domain.money import MAX_TOKENS, NOTHING, NanoUsd
from metering.domain.prices import EVERYBODY, Price, Prices, check_price_key

MAX_BOUNDS = 64
MAX_ID_CHARACTERS = 128
MIN_LEASE = timedelta(seconds=1)


class ReservationClosed(ArgosyError):
    """This request was settled, or its lease ran out: its money is no longer aside. Ask again under a new id."""

    kind, reason = Kind.CONFLICT, "RESERVATION_CLOSED"


class RequestIdReused(ArgosyError):
    """This request id reserved something else before; a repeat has the same bounds."""

    kind, reason = Kind.CONFLICT, "REQUEST_ID_REUSED"


class State(StrEnum):
    """What has become of a reservation."""

    HELD = "held"
    SETTLED = "settled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Bound:
    """The most that one candidate can consume, and the price agreed for it."""

    price: Price
    input_tokens: int
    output_tokens: int

    @property
    def cost(self) -> NanoUsd:
        """The most that this candidate can cost."""
        return self.price.cost(self.input_tokens, self.output_tokens)

    @property
    def asked(self) -> tuple[str, int, int]:
        """What the caller named: the rest was agreed here."""
        return self.price.price_key, self.input_tokens, self.output_tokens


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller asks to set aside; bounds are (price key, input tokens, output tokens)."""

    tenant_id: str
    request_id: str
    bounds: Sequence[tuple[str, int, int]]
    lease: timedelta
    project_id: str = ""
    key_id: str = ""
    user_id: str = ""


@dataclass(frozen=True, slots=True)
class Hold:
    """A priced wish, ready to be set against the budget."""

    tenant_id: str
    request_id: str
    bounds: tuple[Bound, ...]
    lease: timedelta
    project_id: str = ""
    key_id: str = ""
    user_id: str = ""

    @property
    def amount(self) -> NanoUsd:
        """The dearest candidate: one of them answers, and nobody knows yet which."""
        return max((bound.cost for bound in self.bounds), default=NOTHING)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money set aside for one request. `held` is what was held at first; without bounds it never reserved."""

    tenant_id: str
    request_id: str
    state: State
    held: NanoUsd
    bounds: tuple[Bound, ...]
    created_at: datetime
    expires_at: datetime

    def closed(self, state: State) -> Reservation:
        """Return it after its end."""
        return Reservation(
            self.tenant_id, self.request_id, state, self.held, self.bounds, self.created_at, self.expires_at
        )

    def bound_of(self, price_key: str) -> NanoUsd:
        """Return the most that a call of this key can have cost; of an unforeseen key, all that was held."""
        return max((bound.cost for bound in self.bounds if bound.price.price_key == price_key), default=self.held)


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to a hold: the reservation, and the budget after it. `repeated`: it stood already."""

    reservation: Reservation
    budget: Budget
    repeated: bool


class Reservations(Protocol):
    """Where reservations are made. What is decided is durable and counts for all replicas."""

    async def hold(self, hold: Hold) -> Held:
        """Set the money aside, or return the same hold again for the same (tenant, request).

        Raises `BudgetSpent`, `ReservationClosed`, `RequestIdReused`; `Unavailable` when nothing can be decided.
        """


async def reserve(wish: Wish, *, prices: Prices, reservations: Reservations, max_lease: timedelta) -> Held:
    """Price the upper bounds of a request and set the dearest aside, once for each (tenant, request).

    Raises `InvalidRequest` and `UnpricedModel` before anything is asked of the budget, and what `Reservations` raises.
    """
    _check(wish, max_lease)
    agreed = await prices.find(wish.tenant_id, [key for key, _, _ in wish.bounds])
    bounds = tuple(
        Bound(price, tokens_in, tokens_out)
        for price, (_, tokens_in, tokens_out) in zip(agreed, wish.bounds, strict=True)
    )
    return await reservations.hold(
        Hold(wish.tenant_id, wish.request_id, bounds, wish.lease, wish.project_id, wish.key_id, wish.user_id)
    )


def answer(hold: Hold, reservation: Reservation | None, budget: Budget, *, repeated: bool) -> Held | ArgosyError:
    """Say what the books' decision means for the caller; no reservation means that the budget refused."""
    if reservation is None:
        return BudgetSpent(f"the request may cost {hold.amount} nano-USD and the budget has {budget.free} left")
    if repeated and reservation.state is not State.HELD:
        return ReservationClosed(f"the reservation is {reservation.state}", param="request_id")
    if repeated and [bound.asked for bound in hold.bounds] != [bound.asked for bound in reservation.bounds]:
        return RequestIdReused("the request id reserved other bounds before", param="request_id")
    return Held(reservation, budget, repeated)


def is_id(text: str) -> bool:
    """Say whether the books can keep this id: neither empty nor long, without control characters."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isprintable()


def _check(wish: Wish, max_lease: timedelta) -> None:
    # One transaction decides for many callers, so a tenant that the books refuse must not get that far.
    if not is_id(wish.tenant_id) or wish.tenant_id == EVERYBODY:
        raise InvalidRequest("this caller has no tenant to reserve for", param="tenant_id")
    if not is_id(wish.request_id):
        raise InvalidRequest(f"request_id needs 1 to {MAX_ID_CHARACTERS} printable characters", param="request_id")
    if not 1 <= len(wish.bounds) <= MAX_BOUNDS:
        raise InvalidRequest(f"give 1 to {MAX_BOUNDS} bounds", param="bounds")
    for key, tokens_in, tokens_out in wish.bounds:
        check_price_key(key, "bounds.price_key")
        for name, tokens in (("input_tokens", tokens_in), ("output_tokens", tokens_out)):
            if not 0 <= tokens <= MAX_TOKENS:
                raise InvalidRequest(f"{name} must be between 0 and {MAX_TOKENS}", param=f"bounds.{name}")
    if not MIN_LEASE <= wish.lease <= max_lease:
        raise InvalidRequest(f"the lease must be between {MIN_LEASE} and {max_lease}", param="lease")
