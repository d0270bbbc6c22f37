"""Books in memory, with the promises of the real ones; the contract suite keeps them honest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.ids import new_id
from metering.domain.books import Audit, Ledger, RequestAccount, RequestNotFound
from metering.domain.budgets import Budget, Budgets, CapBelowSpend
from metering.domain.ledger import Transaction
from metering.domain.money import NOTHING, NanoUsd
from metering.domain.prices import Price, PriceBook
from metering.domain.reservations import Held, Hold, Reservation, Reservations, State, answer
from metering.domain.settlement import OpenAccount, Posting, Settlement, UsageEvent, expire, settle_all
from metering.domain.usage import UsageReports, UsageSum

DEFAULT_CAP = NanoUsd(1_000_000)


@dataclass(frozen=True, slots=True)
class Books:
    """Every port of metering, over the same books."""

    reservations: Reservations
    ledger: Ledger
    budgets: Budgets
    reports: UsageReports
    price_book: PriceBook


class FakePriceBook:
    """A price book in memory."""

    def __init__(self, clock: Clock, prices: Sequence[Price] = ()) -> None:
        self.rows = list(prices)
        self.loads = 0
        self._clock = clock

    async def in_force(self) -> Sequence[Price]:
        self.loads += 1
        newest: dict[tuple[str, str], Price] = {}
        for price in sorted(self.rows, key=lambda price: price.effective_at):
            if price.effective_at <= self._clock.now():
                newest[price.tenant_id, price.price_key] = price
        return list(newest.values())

    async def recorded(self, versions: Collection[str]) -> Sequence[Price]:
        return [price for price in self.rows if price.version in versions]

    async def add(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        price = Price(price_key, new_id("prc_"), input_per_million, output_per_million, self._clock.now())
        self.rows.append(price)
        return price


@dataclass(slots=True)
class Air:
    """What carries news between replicas; while it is `cut`, nothing."""

    ears: list[Callable[[], None]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    cut: bool = False

    def mend(self) -> None:
        """Let all hear again, who know that they may have missed something."""
        self.cut = False
        for ear in self.ears:
            ear()


class FakeNews:
    """`PriceNews` in memory."""

    def __init__(self, air: Air, forget: Callable[[], None]) -> None:
        self.air = air
        air.ears.append(forget)
        forget()

    async def announce(self, price_key: str) -> None:
        if not self.air.cut:
            self.air.told.append(price_key)
            for ear in self.air.ears:
                ear()


class FakeBooks:
    """Reservations, ledger, budgets and usage in memory."""

    def __init__(self, clock: Clock, default_cap: NanoUsd = DEFAULT_CAP) -> None:
        self._clock = clock
        self._default_cap = default_cap
        self._budgets: dict[str, Budget] = {}
        self._accounts: dict[tuple[str, str], OpenAccount] = {}
        self._settlements: dict[tuple[str, str, int], Settlement] = {}
        self._transactions: list[tuple[str, str, Transaction]] = []

    async def hold(self, hold: Hold) -> Held:
        key, budget = (hold.tenant_id, hold.request_id), self._budget(hold.tenant_id)
        known = self._accounts.get(key, OpenAccount()).reservation
        reservation = known
        if known is None and hold.amount <= budget.free:
            now = self._clock.now()
            reservation = Reservation(*key, State.HELD, hold.amount, hold.bounds, now, now + hold.lease)
            self._accounts[key] = OpenAccount(reservation)
            budget = self._budgets[hold.tenant_id] = budget.moved(spent=NOTHING, held=hold.amount)
        answered = answer(hold, reservation, budget, repeated=known is not None)
        if isinstance(answered, ArgosyError):
            raise answered
        return answered

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[Posting]:
        budgets = {event.tenant_id: self._budget(event.tenant_id) for event in events}
        postings = settle_all(events, self._accounts, budgets, self._clock.now())
        self._write(postings)
        return postings

    async def expire(self, most: int) -> Sequence[Posting]:
        now = self._clock.now()
        overdue = [
            account
            for account in self._accounts.values()
            if account.reservation is not None
            and account.reservation.state is State.HELD
            and account.reservation.expires_at <= now
        ]
        postings = [expire(account, now) for account in overdue[:most]]
        self._write(postings)
        return postings

    async def account(self, tenant_id: str, request_id: str) -> RequestAccount:
        key = (tenant_id, request_id)
        reservation = self._accounts.get(key, OpenAccount()).reservation
        if reservation is None:
            raise RequestNotFound(f"there is no request {request_id}")
        settlements = [row for place, row in sorted(self._settlements.items()) if place[:2] == key]
        transactions = [row for *place, row in self._transactions if tuple(place) == key]
        return RequestAccount(reservation, tuple(settlements), tuple(transactions))

    async def audit(self) -> Audit:
        budgets = self._budgets.values()
        return Audit(
            NOTHING,
            NOTHING,
            NanoUsd(sum(budget.held for budget in budgets)),
            NanoUsd(sum(budget.spent for budget in budgets)),
        )

    async def read(self, tenant_id: str) -> Budget:
        return self._budget(tenant_id)

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        budget = self._budget(tenant_id)
        if cap < budget.spent + budget.held:
            raise CapBelowSpend("the cap is spent")
        self._budgets[tenant_id] = Budget(cap, budget.spent, budget.held)
        return self._budgets[tenant_id]

    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        groups: dict[tuple[str, str], list[Settlement]] = {}
        for (owner, _, attempt), row in self._settlements.items():
            if owner == tenant_id and attempt > 0 and start <= row.settled_at < end:
                day = row.settled_at.date().isoformat() if by_day else ""
                groups.setdefault((day, row.price_key), []).append(row)
        return [
            UsageSum(
                rows[0].settled_at.date() if by_day else None,
                price_key,
                len(rows),
                sum(row.usage.input_tokens or 0 for row in rows),
                sum(row.usage.output_tokens or 0 for row in rows),
                NanoUsd(sum(row.cost for row in rows)),
            )
            for (_, price_key), rows in sorted(groups.items())
        ]

    def _budget(self, tenant_id: str) -> Budget:
        return self._budgets.get(tenant_id, Budget(self._default_cap))

    def _write(self, postings: Sequence[Posting]) -> None:
        for posting in postings:
            if not posting.settlements:
                continue
            tenant_id, request_id = key = (posting.reservation.tenant_id, posting.reservation.request_id)
            self._budgets[tenant_id] = self._budget(tenant_id).moved(spent=posting.spent, held=posting.held)
            self._accounts[key] = posting.after(self._accounts.get(key, OpenAccount()))
            for settlement in posting.settlements:
                self._settlements[tenant_id, request_id, settlement.attempt] = settlement
            self._transactions += [(tenant_id, request_id, transaction) for transaction in posting.transactions]


def fake_books(clock: Clock, default_cap: NanoUsd = DEFAULT_CAP) -> Books:
    """Make empty books."""
    books = FakeBooks(clock, default_cap)
    return Books(books, books, books, books, FakePriceBook(clock))
