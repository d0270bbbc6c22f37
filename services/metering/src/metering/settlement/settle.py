"""How a request ends in the books: each provider call is billed, released or booked to exposure, once.

What the tenant pays for one request never exceeds what was held for it: the rest is the house's exposure. So a bill
always fits under the cap, and `spent + held <= cap` survives every settlement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from metering.domain.budgets import Budget
from metering.domain.ledger import Cause, Transaction, book
from metering.domain.money import NOTHING, NanoUsd
from metering.domain.prices import Price, Prices, UnknownPriceVersion
from metering.domain.reservations import Reservation, State
from metering.domain.usage import NO_USAGE, Source, Usage

WHOLE_REQUEST = 0
"""The attempt that speaks for the request as a whole; provider calls count from 1."""


class Outcome(StrEnum):
    """How a provider call was settled."""

    BILLED = "billed"
    RELEASED = "released"
    EXPOSED = "exposed"


class Story(StrEnum):
    """What a posting means for its request."""

    SETTLED = "settled"
    REPEATED = "repeated"
    LATE = "late"
    UNRESERVED = "unreserved"
    ADDED = "added"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One provider call of a usage event. `price` is the row that `price_version` names; a bill needs it."""

    number: int
    price_key: str
    price_version: str
    usage: Usage
    price: Price | None = None

    @property
    def is_billable(self) -> bool:
        """Whether it has to be priced."""
        return self.usage.is_known and not self.usage.is_nothing

    def at(self, price: Price) -> Attempt:
        """Return it with its price."""
        return Attempt(self.number, self.price_key, self.price_version, self.usage, price)


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """A request is over, and this is what its provider calls consumed."""

    tenant_id: str
    event_id: str
    request_id: str
    attempts: tuple[Attempt, ...]
    project_id: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """The end of one provider call. `cost` is what the tenant pays, `exposed` what the house may have to bear."""

    attempt: int
    outcome: Outcome
    usage: Usage
    price_key: str
    price_version: str
    cost: NanoUsd
    exposed: NanoUsd
    event_id: str
    settled_at: datetime


@dataclass(frozen=True, slots=True)
class OpenAccount:
    """What the books hold for one request while nobody else may change it."""

    reservation: Reservation | None = None
    settled: frozenset[int] = frozenset()
    paid: NanoUsd = NOTHING


@dataclass(frozen=True, slots=True)
class Posting:
    """What is to be written for one request. A settlement of attempt 0 replaces the one before it."""

    story: Story
    reservation: Reservation
    settlements: tuple[Settlement, ...]
    transactions: tuple[Transaction, ...]
    spent: NanoUsd
    held: NanoUsd
    project_id: str = ""
    key_id: str = ""

    def after(self, account: OpenAccount) -> OpenAccount:
        """Return the account as this posting leaves it."""
        done = account.settled | {settlement.attempt for settlement in self.settlements}
        return OpenAccount(self.reservation, done, NanoUsd(account.paid + self.spent))


async def with_prices(event: UsageEvent, *, prices: Prices) -> UsageEvent:
    """Give each call that is to be billed its price. Raises `UnknownPriceVersion`: it can never be settled."""
    billed = {attempt.price_version for attempt in event.attempts if attempt.is_billable}
    if not billed:
        return event
    rows = await prices.recorded(billed)
    attempts = tuple(_priced(attempt, event.tenant_id, rows) for attempt in event.attempts)
    return UsageEvent(event.tenant_id, event.event_id, event.request_id, attempts, event.project_id, event.key_id)


def settle_all(
    events: Iterable[UsageEvent],
    accounts: Mapping[tuple[str, str], OpenAccount],
    budgets: Mapping[str, Budget],
    now: datetime,
) -> list[Posting]:
    """Settle events one after the other, each upon what those before it left behind."""
    opened, open_budgets = dict(accounts), dict(budgets)
    last: dict[tuple[str, str], Posting] = {}
    postings = []
    for event in events:
        key, budget = (event.tenant_id, event.request_id), open_budgets[event.tenant_id]
        account = opened.get(key) or OpenAccount()
        if key in last:
            account = opened[key] = last[key].after(account)
        posting = last[key] = settle(event, account, budget.free, now)
        open_budgets[event.tenant_id] = budget.moved(spent=posting.spent, held=posting.held)
        postings.append(posting)
    return postings


def settle(event: UsageEvent, account: OpenAccount, free: NanoUsd, now: datetime) -> Posting:
    """Settle the calls of an event that are not in the books yet; `free` is what the budget has left.

    A hold is given back and pays for its calls. Without a hold (it expired, or there was none) calls are paid as far as
    the budget has room for them.
    """
    reservation = account.reservation or _never_reserved(event, now)
    settlements, transactions = _end_whole(event, account, reservation, now)
    left = _payable(account, free)
    for attempt in event.attempts:
        if attempt.number in account.settled:
            continue
        settlement = _end_call(event, attempt, reservation, left, now)
        left = NanoUsd(left - settlement.cost)
        settlements.append(settlement)
        transactions += _book_call(settlement)
    return Posting(
        _story(account, settlements),
        reservation.closed(State.SETTLED),
        tuple(settlements),
        tuple(transactions),
        spent=NanoUsd(sum([settlement.cost for settlement in settlements])),
        held=NanoUsd(-reservation.held) if reservation.state is State.HELD else NOTHING,
        project_id=event.project_id,
        key_id=event.key_id,
    )


def expire(account: OpenAccount, now: datetime) -> Posting:
    """Give back a hold whose lease ran out. Nobody knows what the request consumed: all that was held is exposed."""
    reservation = account.reservation
    if reservation is None or reservation.state is not State.HELD:
        raise ValueError("only what is held can expire")
    held = reservation.held
    exposed = Settlement(WHOLE_REQUEST, Outcome.EXPOSED, NO_USAGE, "", "", NOTHING, held, "", now)
    return Posting(
        Story.EXPIRED,
        reservation.closed(State.EXPIRED),
        (exposed,),
        tuple(book(WHOLE_REQUEST, Cause.EXPIRY, owed=NOTHING, exposed=held, now=now)),
        spent=NOTHING,
        held=NanoUsd(-held),
    )


def _payable(account: OpenAccount, free: NanoUsd) -> NanoUsd:
    """Return the most that the tenant may be asked for."""
    reservation = account.reservation
    if reservation is None or not reservation.bounds:
        return free
    if reservation.state is State.HELD:
        return reservation.held
    return NanoUsd(max(0, min(reservation.held - account.paid, free)))


def _end_whole(
    event: UsageEvent, account: OpenAccount, reservation: Reservation, now: datetime
) -> tuple[list[Settlement], list[Transaction]]:
    """End attempt 0: take back what was exposed when the lease ran out, or note that no call was made."""
    if reservation.state is State.EXPIRED:
        taken_back = NanoUsd(-reservation.held)
        return [_nothing(event, now)], book(WHOLE_REQUEST, Cause.CORRECTION, owed=NOTHING, exposed=taken_back, now=now)
    if not event.attempts and not account.settled:
        return [_nothing(event, now)], []
    return [], []


def _end_call(
    event: UsageEvent, attempt: Attempt, reservation: Reservation, left: NanoUsd, now: datetime
) -> Settlement:
    if attempt.usage.is_nothing:
        outcome, cost, exposed = Outcome.RELEASED, NOTHING, NOTHING
    elif not attempt.usage.is_known:
        outcome, cost, exposed = Outcome.EXPOSED, NOTHING, reservation.bound_of(attempt.price_key)
    else:
        bill = _bill(attempt)
        cost = NanoUsd(min(bill, left))
        exposed = NanoUsd(bill - cost)
        outcome = Outcome.EXPOSED if exposed and not cost else Outcome.BILLED
    return Settlement(
        attempt.number,
        outcome,
        attempt.usage,
        attempt.price_key,
        attempt.price_version,
        cost,
        exposed,
        event.event_id,
        now,
    )


def _book_call(settlement: Settlement) -> list[Transaction]:
    return book(
        settlement.attempt,
        Cause.SETTLEMENT,
        owed=settlement.cost,
        exposed=settlement.exposed,
        now=settlement.settled_at,
        price_version=settlement.price_version or None,
    )


def _bill(attempt: Attempt) -> NanoUsd:
    if attempt.price is None or attempt.usage.input_tokens is None or attempt.usage.output_tokens is None:
        raise ValueError("a call without price or usage cannot be billed")
    return attempt.price.cost(attempt.usage.input_tokens, attempt.usage.output_tokens)


def _nothing(event: UsageEvent, now: datetime) -> Settlement:
    none_used = Usage(Source.COUNTED, 0, 0)
    return Settlement(WHOLE_REQUEST, Outcome.RELEASED, none_used, "", "", NOTHING, NOTHING, event.event_id, now)


def _never_reserved(event: UsageEvent, now: datetime) -> Reservation:
    return Reservation(event.tenant_id, event.request_id, State.SETTLED, NOTHING, (), now, now)


def _story(account: OpenAccount, settlements: list[Settlement]) -> Story:
    if account.reservation is None:
        return Story.UNRESERVED
    if account.reservation.state is State.HELD:
        return Story.SETTLED
    if account.reservation.state is State.EXPIRED:
        return Story.LATE
    return Story.ADDED if settlements else Story.REPEATED


def _priced(attempt: Attempt, tenant_id: str, rows: Mapping[str, Price]) -> Attempt:
    if not attempt.is_billable:
        return attempt
    price = rows.get(attempt.price_version)
    if price is None or price.price_key != attempt.price_key or not price.holds_for(tenant_id):
        raise UnknownPriceVersion(f"{attempt.price_version!r} is no price of {attempt.price_key!r} for this tenant")
    return attempt.at(price)
