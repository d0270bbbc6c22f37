"""Stores in memory that keep the contracts of the real ones; the contract suites run on both."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.ids import new_id
from metering.budgets.model import Budget, CapBelowSpend
from metering.budgets.set_cap import BudgetStore
from metering.exposures.model import ReconcileRequest, RequestSettlement, SettlementFilter, SettlementPage
from metering.exposures.reconcile import ExposureStore, reconcile_settlement
from metering.ledger.audit import AuditResult, LedgerAudit
from metering.ledger.model import Transaction
from metering.prices.model import NO_EDIT, PriceBook, PriceEdit, PriceRow, PriceVersion
from metering.reservations.model import (
    PricedReservation,
    RequestNotFound,
    RequestRef,
    Reservation,
    ReservationState,
    ReserveResult,
)
from metering.reservations.reserve import ReservationStore, to_result
from metering.reservations.reserve_hits import HitReservation, HitReservationStore, PricedHit
from metering.reservations.schedule import LeaseStore
from metering.reservations.start_attempt import AttemptStore, StartedAttempt, announce
from metering.settlement.expire import expire
from metering.settlement.hits import Hits
from metering.settlement.model import (
    NO_EVENT,
    LockedRequest,
    RequestStatement,
    Settlement,
    SettlementCase,
    SettlementChanges,
    UsageEvent,
)
from metering.settlement.ports import SettlementStore
from metering.settlement.settle import settle_all
from metering.usage.model import CacheSum, CacheUse, RightSizingSum, UsageSum
from metering.usage.sum_usage import UsageStore
from values.money import ZERO, ClassCost, ClassPrices, NanoUsd, Price
from values.usage import CacheOutcome, TokenClass

DEFAULT_CAP = NanoUsd(1_000_000)


@dataclass(frozen=True, slots=True)
class Stores:
    """Every store of metering, over the same data."""

    reservations: ReservationStore
    hits: HitReservationStore
    attempts: AttemptStore
    settlements: SettlementStore
    leases: LeaseStore
    ledger: LedgerAudit
    budgets: BudgetStore
    usage: UsageStore
    exposures: ExposureStore
    price_book: PriceBook


class FakePriceBook:
    def __init__(self, clock: Clock, prices: Sequence[PriceRow] = ()) -> None:
        self.rows = list(prices)
        self.edits: dict[str, PriceEdit] = {}
        self.loads = 0
        self._clock = clock

    async def in_force(self) -> Sequence[PriceRow]:
        self.loads += 1
        newest: dict[tuple[str, str], PriceRow] = {}
        for row in sorted(self.rows, key=lambda row: row.effective_at):
            if row.effective_at <= self._clock.now():
                newest[row.tenant_id, row.price.key] = row
        return list(newest.values())

    async def by_version(self, versions: Collection[str]) -> Sequence[PriceRow]:
        return [row for row in self.rows if row.price.version in versions]

    async def add(
        self,
        price_key: str,
        input_per_million: NanoUsd,
        output_per_million: NanoUsd,
        edit: PriceEdit = NO_EDIT,
        classes: ClassPrices | None = None,
    ) -> PriceRow:
        price = Price(price_key, new_id("prc_"), input_per_million, output_per_million, classes)
        self.rows.append(PriceRow(price, self._clock.now()))
        self.edits[price.version] = edit
        return self.rows[-1]

    async def versions(self, price_key: str, limit: int, before_version: str) -> Sequence[PriceVersion]:
        rows = [row for row in self.rows if row.price.key == price_key]
        versions = [row.price.version for row in rows]
        older = rows[: versions.index(before_version)] if before_version else rows
        return [PriceVersion(row, self.edits.get(row.price.version, NO_EDIT)) for row in older[::-1][:limit]]


@dataclass(slots=True)
class FakePubSub:
    """Carries messages between replicas, unless it is `down`."""

    subscribers: list[Callable[[], None]] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    down: bool = False

    def recover(self) -> None:
        """Connect all subscribers again; each invalidates its cache, because it may have missed messages."""
        self.down = False
        for invalidate in self.subscribers:
            invalidate()


class FakePriceChanges:
    """`PriceChangePublisher` in memory."""

    def __init__(self, pub_sub: FakePubSub, invalidate: Callable[[], None]) -> None:
        self.pub_sub = pub_sub
        pub_sub.subscribers.append(invalidate)
        invalidate()

    async def publish(self, price_key: str) -> None:
        if not self.pub_sub.down:
            self.pub_sub.published.append(price_key)
            for invalidate in self.pub_sub.subscribers:
                invalidate()


class FakeStores:
    """Reservations, settlements, ledger, budgets and usage in memory."""

    def __init__(self, clock: Clock, default_cap: NanoUsd = DEFAULT_CAP) -> None:
        self._clock = clock
        self._default_cap = default_cap
        self._budgets: dict[str, Budget] = {}
        self._requests: dict[tuple[str, str], LockedRequest] = {}
        self._settlements: dict[tuple[str, str, int], Settlement] = {}
        self._transactions: list[tuple[str, str, Transaction]] = []
        self._cache_uses: list[tuple[str, date, CacheUse, Sequence[Settlement]]] = []
        self._right_sizing_uses: list[tuple[str, date, str, tuple[int, int, int, int]]] = []

    async def reserve(self, priced: PricedReservation) -> ReserveResult:
        request = priced.request
        key, budget = (request.tenant_id, request.request_id), self._budget(request.tenant_id)
        existing = self._requests.get(key, LockedRequest()).reservation
        reservation = existing
        if existing is None and priced.amount <= budget.available:
            now = self._clock.now()
            reservation = Reservation(
                *key, ReservationState.HELD, priced.amount, priced.bounds, now, now + request.lease
            )
            self._requests[key] = LockedRequest(reservation)
            budget = self._budgets[request.tenant_id] = budget.adjusted(held=priced.amount)
        result = to_result(priced, reservation, budget, repeated=existing is not None)
        if isinstance(result, ArgosyError):
            raise result
        return result

    async def reserve_hits(
        self, answers: Mapping[int, PricedHit], hits: Mapping[int, HitReservation], lease: timedelta
    ) -> tuple[Mapping[str, Budget], Mapping[int, ArgosyError]]:
        refused: dict[int, ArgosyError] = {}
        for place, hit in hits.items():
            answer = answers[hit.answer]
            key = (answer.tenant_id, hit.request_id)
            try:
                result = await self.reserve(answer.reservation_of(hit, lease))
            except ArgosyError as error:
                refused[place] = error
            else:
                if not result.repeated:
                    self._requests[key] = LockedRequest(replace(result.reservation, attempts=(answer.attempt,)))
        tenants = {answers[hit.answer].tenant_id for hit in hits.values()}
        return {tenant_id: self._budget(tenant_id) for tenant_id in tenants}, refused

    async def settle(self, events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        budgets = {event.tenant_id: self._budget(event.tenant_id) for event in events}
        changes = settle_all(events, self._requests, budgets, self._clock.now())
        self._write(changes)
        return changes

    async def start_attempt(self, started: StartedAttempt) -> Reservation:
        key = (started.tenant_id, started.request_id)
        before, budget = self._requests.get(key, LockedRequest()).reservation, self._budget(started.tenant_id)
        after = announce(started, before, budget)
        assert before is not None
        self._requests[key] = LockedRequest(after)
        self._budgets[started.tenant_id] = budget.adjusted(held=NanoUsd(after.held - before.held))
        return after

    def _overdue(self) -> list[tuple[RequestRef, LockedRequest]]:
        return [
            (RequestRef(*key), request)
            for key, request in self._requests.items()
            if request.reservation is not None
            and request.reservation.state is ReservationState.HELD
            and request.reservation.expires_at <= self._clock.now()
        ]

    async def overdue(self, limit: int) -> Sequence[RequestRef]:
        return [ref for ref, _ in self._overdue()][:limit]

    async def extend(self, requests: Sequence[RequestRef], extension: timedelta) -> None:
        for ref, request in self._overdue():
            if ref in requests and request.reservation is not None:
                reservation = replace(request.reservation, expires_at=self._clock.now() + extension)
                self._requests[ref] = LockedRequest(reservation, request.settled)

    async def expire(self, requests: Sequence[RequestRef]) -> Sequence[SettlementChanges]:
        changes = [expire(request, self._clock.now()) for ref, request in self._overdue() if ref in requests]
        self._write(changes)
        return changes

    async def list(self, tenant_id: str, page: SettlementPage) -> tuple[Sequence[RequestSettlement], bool]:
        rows = [
            RequestSettlement(owner, request_id, row)
            for (owner, request_id, _), row in self._settlements.items()
            if owner == tenant_id and is_listed(row, page.filter)
        ]
        rows.sort(key=lambda row: (row.settlement.settled_at, row.request_id, row.settlement.attempt), reverse=True)
        after = (page.after_request_id, page.after_attempt)
        places = [place for place, row in enumerate(rows, 1) if (row.request_id, row.settlement.attempt) == after]
        rows = rows[places[0] if places else 0 :]
        return rows[: page.limit], len(rows) > page.limit

    async def reconcile(self, request: ReconcileRequest) -> RequestSettlement:
        key, budget = (request.tenant_id, request.request_id), self._budget(request.tenant_id)
        if key not in self._requests:
            raise RequestNotFound("there is no such request")
        settlement = self._settlements.get((*key, request.attempt))
        changes = reconcile_settlement(request, settlement, budget, self._clock.now())
        if changes is not None:
            settlement = self._settlements[*key, request.attempt] = changes.settlement
            self._budgets[request.tenant_id] = budget.adjusted(spent=changes.spent, exposed=changes.exposed)
            self._transactions.append((*key, changes.transaction))
            self._requests[key] = LockedRequest(
                self._requests[key].reservation,
                tuple(
                    replace(row, cost=NanoUsd(row.cost + changes.spent), counted=ZERO, is_estimate=False)
                    if row.attempt == request.attempt
                    else row
                    for row in self._requests[key].settled
                ),
            )
        assert settlement is not None
        return RequestSettlement(*key, settlement)

    async def settle_hits(self, hits: Hits) -> Sequence[SettlementChanges]:
        return await self.settle([hits.event_of(hit) for hit in hits.hits])

    async def statement(self, tenant_id: str, request_id: str) -> RequestStatement:
        key = (tenant_id, request_id)
        reservation = self._requests.get(key, LockedRequest()).reservation
        if reservation is None:
            raise RequestNotFound(f"there is no request {request_id}")
        settlements = [row for place, row in sorted(self._settlements.items()) if place[:2] == key]
        transactions = [row for *owner, row in self._transactions if tuple(owner) == key]
        return RequestStatement(reservation, tuple(settlements), tuple(transactions))

    async def audit(self) -> AuditResult:
        budgets = self._budgets.values()
        return AuditResult(
            imbalance=ZERO,
            drift=ZERO,
            held=NanoUsd(sum(budget.held for budget in budgets)),
            spent=NanoUsd(sum(budget.spent for budget in budgets)),
            exposed=NanoUsd(sum(budget.exposed for budget in budgets)),
        )

    async def read(self, tenant_id: str) -> Budget:
        return self._budget(tenant_id)

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        budget = self._budget(tenant_id)
        if cap < budget.used:
            raise CapBelowSpend("the cap is spent")
        self._budgets[tenant_id] = replace(budget, cap=cap)
        return self._budgets[tenant_id]

    async def sums(self, tenant_id: str, start: datetime, end: datetime, *, by_day: bool) -> Sequence[UsageSum]:
        groups: dict[tuple[str, str], list[Settlement]] = {}
        for (owner, _, attempt), row in self._settlements.items():
            if owner == tenant_id and attempt > 0 and row.event_id != NO_EVENT and start <= row.settled_at < end:
                day = row.settled_at.date().isoformat() if by_day else ""
                groups.setdefault((day, row.price_key), []).append(row)
        return [
            UsageSum(
                rows[0].settled_at.date() if by_day else None,
                price_key,
                sum(row.cache is None for row in rows),
                sum(row.usage.input_tokens or 0 for row in rows if row.cache is None),
                sum(row.usage.output_tokens or 0 for row in rows if row.cache is None),
                NanoUsd(sum(row.cost for row in rows)),
                sum(row.cache is not None for row in rows),
                NanoUsd(sum(row.saved for row in rows)),
                sum_classes(rows),
                NanoUsd(sum(row.right_sizing.saved for row in rows if row.right_sizing is not None)),
            )
            for (_, price_key), rows in sorted(groups.items())
        ]

    async def cache_sums(self, tenant_id: str, first: date, last: date, *, by_day: bool) -> Sequence[CacheSum]:
        groups: dict[tuple[date | None, str], list[tuple[CacheUse, Sequence[Settlement]]]] = {}
        for owner, day, use, settlements in self._cache_uses:
            if owner == tenant_id and first <= day <= last:
                groups.setdefault((day if by_day else None, use.model), []).append((use, settlements))
        return [
            CacheSum(
                day,
                model,
                len(uses),
                sum(use.outcome is CacheOutcome.HIT for use, _ in uses),
                sum(use.outcome is CacheOutcome.SEMANTIC for use, _ in uses),
                sum(use.outcome is CacheOutcome.STALE for use, _ in uses),
                NanoUsd(sum(row.cost for _, rows in uses for row in rows if row.cache is not None)),
                NanoUsd(sum(row.saved for _, rows in uses for row in rows)),
            )
            for (day, model), uses in sorted(groups.items(), key=str)
        ]

    async def right_sizing_sums(
        self, tenant_id: str, first: date, last: date, *, by_day: bool
    ) -> Sequence[RightSizingSum]:
        groups: dict[tuple[date | None, str], list[tuple[int, int, int, int]]] = {}
        for owner, day, model, counts in self._right_sizing_uses:
            if owner == tenant_id and first <= day <= last:
                groups.setdefault((day if by_day else None, model), []).append(counts)
        return [
            RightSizingSum(day, model, requests, answered, NanoUsd(cost), NanoUsd(saved))
            for (day, model), uses in sorted(groups.items(), key=str)
            for requests, answered, cost, saved in [map(sum, zip(*uses, strict=True))]
        ]

    def _budget(self, tenant_id: str) -> Budget:
        return self._budgets.get(tenant_id, Budget(self._default_cap))

    def _write(self, changes: Sequence[SettlementChanges]) -> None:
        for change in changes:
            if not change.settlements:
                continue
            tenant_id, request_id = key = (change.reservation.tenant_id, change.reservation.request_id)
            self._budgets[tenant_id] = self._budget(tenant_id).adjusted(
                spent=change.spent, held=change.held, exposed=change.exposed
            )
            self._requests[key] = change.apply_to(self._requests.get(key, LockedRequest()))
            for settlement in change.settlements:
                self._settlements[tenant_id, request_id, settlement.attempt] = settlement
            self._transactions += [(tenant_id, request_id, transaction) for transaction in change.transactions]
            if change.cache is not None and change.case not in {SettlementCase.REPEATED, SettlementCase.ADDED}:
                day = change.settlements[0].settled_at.date()
                self._cache_uses.append((tenant_id, day, change.cache, change.settlements))
            self._count_right_sizing(change)

    def _count_right_sizing(self, change: SettlementChanges) -> None:
        use, sized = change.right_sizing, [row for row in change.settlements if row.right_sizing is not None]
        if use is None or not sized:
            return
        is_first = change.case not in {SettlementCase.REPEATED, SettlementCase.ADDED}
        cost = sum(row.cost for row in sized)
        saved = sum(row.right_sizing.saved for row in sized if row.right_sizing is not None)
        counts = (int(is_first), int(is_first and use.answer > 0), cost, saved)
        self._right_sizing_uses.append((change.reservation.tenant_id, sized[0].settled_at.date(), use.model, counts))


def sum_classes(rows: Sequence[Settlement]) -> tuple[ClassCost, ...]:
    sums = {token_class: [0, 0] for token_class in TokenClass}
    for row in rows:
        for one in row.classes:
            sums[one.token_class][0] += one.tokens if row.cache is None else 0
            sums[one.token_class][1] += one.cost
    return tuple(ClassCost(name, tokens, NanoUsd(cost)) for name, (tokens, cost) in sums.items() if tokens or cost)


def is_listed(row: Settlement, wanted: SettlementFilter) -> bool:
    if wanted is SettlementFilter.USAGE_CLAMPED:
        return row.reported is not None
    return row.exposed > 0 and row.reconciliation is None


def fake_stores(clock: Clock, default_cap: NanoUsd = DEFAULT_CAP) -> Stores:
    """Make empty stores."""
    stores = FakeStores(clock, default_cap)
    return Stores(stores, stores, stores, stores, stores, stores, stores, stores, stores, FakePriceBook(clock))
