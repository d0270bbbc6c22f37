"""Settlement: each provider call of a request ends once: billed, released or exposed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from values.money import ZERO, ClassCost, NanoUsd, Price, split_version
from values.usage import CacheOutcome, ExposureCause, TokenUsage

from metering.ledger.model import Transaction
from metering.prices.model import PriceCache, PriceRow, UnknownPriceVersion
from metering.reservations.model import Reservation
from metering.usage.model import CacheUse, RightSizingUse

REQUEST_ATTEMPT = 0
"""The attempt that stands for the request itself; provider calls count from 1."""


NO_EVENT = ""
"""The event id of an estimate: no message has told of this call yet. A usage event may replace it."""
ANNOUNCED = "announced"
"""The event id of a call whose usage came with the announcement of the next one. It is final."""


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


class Alternative(NamedTuple):
    """What a call of a cheap candidate is compared with: the candidate that would have been tried first."""

    price: Price
    answered: bool
    """Whether the client got the answer of the call, or was getting it when it left."""


class RightSized(NamedTuple):
    """A call of a cheap candidate, and what it saved: what would have been paid at another price, less what was paid.

    It is negative where more was paid.
    """

    price_key: str
    price_version: str
    saved: NanoUsd


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call of a usage event, or the answer that the cache gave instead (`cache`).

    `price` is the price that `price_version` names, and `full_price` that price without its discount, for the cache; a
    billable call needs the first. `cause` is whose doing an unknown usage is. `alternative` is there for a call that
    right-sizing sent to a cheap candidate.
    """

    number: int
    price_key: str
    price_version: str
    usage: TokenUsage
    price: Price | None = None
    cause: ExposureCause = ExposureCause.PROVIDER
    cache: CacheOutcome | None = None
    full_price: Price | None = None
    alternative: Alternative | None = None

    @property
    def is_billable(self) -> bool:
        return self.usage.known not in (None, (0, 0))

    def priced(self, price: Price, full_price: Price | None) -> Attempt:
        """Give it its prices. Written out, as `with_attempts`: `replace` takes three times as long, for each event."""
        return Attempt(
            self.number,
            self.price_key,
            self.price_version,
            self.usage,
            price,
            self.cause,
            self.cache,
            full_price,
            self.alternative,
        )


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A request is over; its provider calls consumed this."""

    tenant_id: str
    event_id: str
    request_id: str
    attempts: tuple[Attempt, ...]
    project_id: str = ""
    key_id: str = ""
    cache: CacheUse | None = None
    right_sizing: RightSizingUse | None = None

    def with_attempts(self, attempts: tuple[Attempt, ...]) -> UsageEvent:
        return UsageEvent(
            self.tenant_id,
            self.event_id,
            self.request_id,
            attempts,
            self.project_id,
            self.key_id,
            self.cache,
            self.right_sizing,
        )


async def attach_prices(event: UsageEvent, *, prices: PriceCache) -> UsageEvent:
    """Give each billable call its price. Raises `UnknownPriceVersion`: the event can never be settled.

    Nothing is compared with an alternative whose price does not exist: the bill does not depend on it.
    """
    versions = {attempt.price_version for attempt in event.attempts if attempt.is_billable}
    if event.right_sizing is not None:
        versions.add(event.right_sizing.price_version)
    if not versions:
        return event
    versions |= {split_version(attempt.price_version)[0] for attempt in event.attempts if attempt.cache is not None}
    rows = await prices.by_version(versions)
    priced = event.with_attempts(tuple([_with_price(attempt, event.tenant_id, rows) for attempt in event.attempts]))
    return priced if event.right_sizing is None else _with_alternative(priced, event.right_sizing, rows)


def _with_price(attempt: Attempt, tenant_id: str, rows: Mapping[str, PriceRow]) -> Attempt:
    if not attempt.is_billable:
        return attempt
    row = rows.get(attempt.price_version)
    if row is None or row.price.key != attempt.price_key or not row.applies_to(tenant_id):
        raise UnknownPriceVersion(f"{attempt.price_version!r} is no price of {attempt.price_key!r} for this tenant")
    full = None if attempt.cache is None else rows[split_version(attempt.price_version)[0]].price
    return attempt.priced(row.price, full)


def _with_alternative(event: UsageEvent, use: RightSizingUse, rows: Mapping[str, PriceRow]) -> UsageEvent:
    """Give the calls of cheap candidates what they are compared with."""
    row = rows.get(use.price_version)
    if row is None or row.price.key != use.price_key or not row.applies_to(event.tenant_id):
        return replace(event, right_sizing=None)
    attempts = tuple(
        replace(attempt, alternative=Alternative(row.price, answered=attempt.number == use.answer))
        if attempt.number in use.attempts and attempt.cache is None
        else attempt
        for attempt in event.attempts
    )
    return replace(event, attempts=attempts)


class Decision(StrEnum):
    """What an operator decides about an exposure."""

    WRITTEN_OFF = "written_off"  # the operator bears it
    BILLED = "billed"  # the tenant pays


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """How an exposure was closed: the tenant pays `cost` of it."""

    decision: Decision
    cost: NanoUsd
    key_id: str
    note: str
    reconciled_at: datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one provider call ended. The tenant pays `cost`; `exposed` is what it may have cost beside that.

    `cause` is whose doing the exposure is, and `counted` the part of it that counts against the tenant's cap until it
    is reconciled. `usage` is at most the bound; `reported` is the usage as it came, where it was above the bound.
    `cache` is how the cache answered, if it did, and `saved` what its tokens would have cost beside `cost`.
    `classes` share `cost` among the classes of tokens; there are none where no count is known, and none of a settlement
    from before classes were kept. `right_sizing` is there for a call that right-sizing sent to a cheap candidate.
    """

    attempt: int
    outcome: Outcome
    usage: TokenUsage
    price_key: str
    price_version: str
    cost: NanoUsd
    exposed: NanoUsd
    event_id: str
    settled_at: datetime
    cause: ExposureCause | None = None
    counted: NanoUsd = ZERO
    reported: TokenUsage | None = None
    reconciliation: Reconciliation | None = None
    cache: CacheOutcome | None = None
    saved: NanoUsd = ZERO
    classes: tuple[ClassCost, ...] = ()
    right_sizing: RightSized | None = None

    @property
    def entry(self) -> SettledAttempt:
        """What later events of the request need to know of it."""
        return SettledAttempt(
            self.attempt, self.cost, self.exposed, self.counted, is_estimate=self.event_id == NO_EVENT
        )


@dataclass(frozen=True, slots=True)
class SettledAttempt:
    """A settled call: `cost` with what a reconciliation billed, `counted` while the exposure is open."""

    attempt: int
    cost: NanoUsd
    exposed: NanoUsd
    counted: NanoUsd
    is_estimate: bool


@dataclass(frozen=True, slots=True)
class LockedRequest:
    """The state of a request that no other transaction can change."""

    reservation: Reservation | None = None
    settled: tuple[SettledAttempt, ...] = ()

    @property
    def charged(self) -> NanoUsd:
        """What its calls take of the budget."""
        return NanoUsd(sum([row.cost + row.counted for row in self.settled]))


@dataclass(frozen=True, slots=True)
class SettlementChanges:
    """Everything that one usage event, or an expiry, changes. A settlement replaces the estimate of its attempt.

    `spent`, `held` and `exposed` are what to add to the budget.
    """

    case: SettlementCase
    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]
    spent: NanoUsd
    held: NanoUsd
    exposed: NanoUsd = ZERO
    project_id: str = ""
    key_id: str = ""
    cache: CacheUse | None = None
    right_sizing: RightSizingUse | None = None

    def apply_to(self, request: LockedRequest) -> LockedRequest:
        rows = {row.attempt: row for row in request.settled}
        rows |= {settlement.attempt: settlement.entry for settlement in self.settlements}
        return LockedRequest(self.reservation, tuple(rows.values()))


@dataclass(frozen=True, slots=True)
class RequestStatement:
    """What one request cost, from its reservation to the ledger."""

    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]
