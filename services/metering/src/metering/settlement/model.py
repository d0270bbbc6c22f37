"""Settlement: each provider call of a request ends once: billed, released or exposed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from chassis.errors import ArgosyError, Kind
from values.money import ZERO, NanoUsd, Price
from values.usage import TokenUsage

from metering.ledger.model import Transaction
from metering.reservations.model import Reservation

REQUEST_ATTEMPT = 0
"""The attempt that stands for the request itself; provider calls count from 1."""


class RequestNotFound(ArgosyError):
    """The tenant has no request with this id."""

    kind, reason = Kind.NOT_FOUND, "REQUEST_NOT_FOUND"


class Outcome(StrEnum):
    BILLED = "billed"
    RELEASED = "released"
    EXPOSED = "exposed"


class SettlementCase(StrEnum):
    """What a usage event, or the end of a lease, means for its request."""

    SETTLED = "settled"  # the request was held
    REPEATED = "repeated"  # all calls of the event were settled before
    LATE = "late"  # the lease had expired
    UNRESERVED = "unreserved"  # the request never reserved
    ADDED = "added"  # the request was settled; the event has further calls
    EXPIRED = "expired"  # no event came before the lease was over


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call of a usage event. `price` is the price that `price_version` names; a billable call needs it."""

    number: int
    price_key: str
    price_version: str
    usage: TokenUsage
    price: Price | None = None

    @property
    def is_billable(self) -> bool:
        return self.usage.known not in {None, (0, 0)}

    def with_price(self, price: Price) -> Attempt:
        return Attempt(self.number, self.price_key, self.price_version, self.usage, price)


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A request is over; its provider calls consumed this."""

    tenant_id: str
    event_id: str
    request_id: str
    attempts: tuple[Attempt, ...]
    project_id: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one provider call ended. The tenant pays `cost`; the operator of Argosy may have to bear `exposed`."""

    attempt: int
    outcome: Outcome
    usage: TokenUsage
    price_key: str
    price_version: str
    cost: NanoUsd
    exposed: NanoUsd
    event_id: str
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class LockedRequest:
    """The state of a request that no other transaction can change: its settled attempts, and what they cost."""

    reservation: Reservation | None = None
    settled: frozenset[int] = frozenset()
    paid: NanoUsd = ZERO


@dataclass(frozen=True, slots=True)
class SettlementChanges:
    """Everything that one usage event, or an expiry, changes. A settlement of attempt 0 replaces the one before it.

    `spent` and `held` are what to add to the budget.
    """

    case: SettlementCase
    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]
    spent: NanoUsd
    held: NanoUsd
    project_id: str = ""
    key_id: str = ""

    def apply_to(self, request: LockedRequest) -> LockedRequest:
        settled = request.settled | {settlement.attempt for settlement in self.settlements}
        return LockedRequest(self.reservation, settled, NanoUsd(request.paid + self.spent))


@dataclass(frozen=True, slots=True)
class RequestStatement:
    """What one request cost, from its reservation to the ledger."""

    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]
