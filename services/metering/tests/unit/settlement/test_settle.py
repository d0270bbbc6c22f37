"""Rules of every settlement, whatever events come in whatever order."""

from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.budgets.model import Budget
from metering.ledger.model import Account, Entry, Transaction, TransactionKind, UnbalancedTransaction, post
from metering.prices.model import PriceCache, UnknownPriceVersion
from metering.reservations.model import Bound, Reservation, ReservationState
from metering.settlement.expire import expire
from metering.settlement.model import Attempt, LockedRequest, Outcome, Settlement, SettlementChanges, UsageEvent
from metering.settlement.settle import attach_prices, settle, settle_all
from values.money import ZERO, NanoUsd
from values.usage import TokenUsage, UsageSource

from services.metering.tests.examples import NONE, UNKNOWN, a_price, a_reservation, an_event, reported
from services.metering.tests.fakes import FakePriceBook

NOW = FakeClock().now()
PRICE = a_price()
OPPOSITE = {Account.RECEIVABLE: Account.REVENUE, Account.EXPOSURE: Account.SUSPENSE}

usages = st.one_of(
    st.just(NONE), st.just(UNKNOWN), st.integers(1, 200).map(reported), st.just(TokenUsage(UsageSource.REPORTED, 5))
)
histories = st.lists(
    st.one_of(st.just("expire"), st.dictionaries(st.integers(1, 4), usages, max_size=4)), min_size=1, max_size=6
)


def a_locked_request(held: int, state: ReservationState = ReservationState.HELD) -> LockedRequest:
    bounds = (Bound(PRICE, held, 0),)
    return LockedRequest(Reservation("ten_a", "req_1", state, NanoUsd(held), bounds, NOW, NOW + timedelta(hours=1)))


def an_event_of(attempts: dict[int, TokenUsage]) -> UsageEvent:
    calls = tuple(
        Attempt(n, PRICE.price.key, PRICE.price.version, usage, PRICE.price) for n, usage in sorted(attempts.items())
    )
    return UsageEvent("ten_a", "evt_1", "req_1", calls)


@given(st.integers(0, 300), st.integers(0, 300), histories)
def test_no_history_breaks_the_cap_bills_twice_or_loses_a_call(
    held: int, others: int, history: list[str | dict[int, TokenUsage]]
) -> None:
    request, available = a_locked_request(held), NanoUsd(others)
    budget_held, expected, changes = held, set(), []
    for step in history:
        if step == "expire":
            if request.reservation is None or request.reservation.state is not ReservationState.HELD:
                continue
            change = expire(request, NOW)
        else:
            assert isinstance(step, dict)
            expected |= set(step)
            change = settle(an_event_of(step), request, available, NOW)
        changes.append(change)
        request = change.apply_to(request)
        budget_held += change.held
        available = NanoUsd(available - change.spent - change.held - change.exposed)
        assert available >= 0
        assert budget_held >= 0

    calls = [row.attempt for change in changes for row in change.settlements if row.attempt > 0 and row.event_id]
    assert sorted(calls) == sorted(expected)
    assert request.charged <= held
    assert totals(changes)[Account.RECEIVABLE] == sum(row.cost for row in final(changes))
    assert totals(changes)[Account.EXPOSURE] == sum(row.exposed for row in final(changes))
    assert all(totals(changes)[credit] == -totals(changes)[debit] for debit, credit in OPPOSITE.items())


def totals(changes: list[SettlementChanges]) -> dict[Account, int]:
    lines = [entry for change in changes for transaction in change.transactions for entry in transaction.entries]
    return {account: sum(entry.amount for entry in lines if entry.account is account) for account in Account}


def final(changes: list[SettlementChanges]) -> list[Settlement]:
    return list({row.attempt: row for change in changes for row in change.settlements}.values())


def test_only_what_is_held_expires() -> None:
    for state in (ReservationState.SETTLED, ReservationState.EXPIRED):
        with pytest.raises(ValueError, match="held"):
            expire(a_locked_request(10, state), NOW)
    with pytest.raises(ValueError, match="held"):
        expire(LockedRequest(), NOW)


@pytest.mark.parametrize(
    ("usage", "outcome"),
    [
        (TokenUsage(UsageSource.REPORTED, 0, 0), Outcome.RELEASED),
        (TokenUsage(UsageSource.COUNTED, 0, 1), Outcome.BILLED),
        (TokenUsage(UsageSource.COUNTED, 1, 0), Outcome.BILLED),
        (TokenUsage(UsageSource.REPORTED, 1, None), Outcome.EXPOSED),
        (TokenUsage(UsageSource.REPORTED, None, 1), Outcome.EXPOSED),
        (TokenUsage(UsageSource.REPORTED, None, None), Outcome.EXPOSED),
        (TokenUsage(UsageSource.UNKNOWN, 1, 1), Outcome.EXPOSED),
        (TokenUsage(UsageSource.UNKNOWN, 0, 0), Outcome.EXPOSED),
    ],
)
def test_an_explicit_zero_is_a_value_and_an_absent_count_is_unknown(usage: TokenUsage, outcome: Outcome) -> None:
    (settlement,) = settle(an_event_of({1: usage}), a_locked_request(100), ZERO, NOW).settlements
    assert settlement.outcome is outcome


def test_a_call_of_a_model_that_costs_nothing_is_billed_nothing() -> None:
    free_price = a_price("local/available", 0, 0)
    change = settle(an_event(a_reservation("ten_a", free_price, 5), reported(5)), a_locked_request(0), ZERO, NOW)
    assert [(row.outcome, row.cost) for row in change.settlements] == [(Outcome.BILLED, 0)]
    assert change.transactions == ()


def test_each_event_of_a_request_is_settled_on_the_state_that_the_ones_before_left() -> None:
    priced = a_reservation("ten_a", PRICE, 10, request_id="req_1")
    request = a_locked_request(10)
    events = [an_event(priced, reported(4), first=number) for number in (1, 2, 3, 1, 2, 3)]
    changes = settle_all(events, {("ten_a", "req_1"): request}, {"ten_a": Budget(NanoUsd(10), held=NanoUsd(10))}, NOW)
    assert [change.spent for change in changes] == [4, 4, 2, 0, 0, 0]
    assert [change.held for change in changes] == [-10, 0, 0, 0, 0, 0]
    assert changes[2].settlements[0].exposed == 2


def test_unknown_usage_exposes_the_bound_of_its_own_candidate() -> None:
    other = a_price("local/other", 5, 5)
    reservation = Reservation(
        "ten_a", "req_1", ReservationState.HELD, NanoUsd(500), (Bound(PRICE, 10, 0), Bound(other, 100, 0)), NOW, NOW
    )
    calls = tuple(
        Attempt(number, key, "", UNKNOWN)
        for number, key in enumerate([PRICE.price.key, other.price.key, "x/unforeseen"], 1)
    )
    change = settle(UsageEvent("ten_a", "evt_1", "req_1", calls), LockedRequest(reservation), ZERO, NOW)
    assert [row.exposed for row in change.settlements] == [10, 500, 500]


async def test_each_billed_call_gets_the_price_that_was_recorded() -> None:
    clock = FakeClock()
    older, newer = a_price(), a_price()
    prices = PriceCache(FakePriceBook(clock, [older, newer]), clock, timedelta(seconds=1))
    event = an_event(a_reservation("ten_a", older, 5), reported(5), UNKNOWN)
    priced = await attach_prices(event, prices=prices)
    assert [attempt.price for attempt in priced.attempts] == [older.price, older.price]


@pytest.mark.parametrize("wrong", ["prc_none", ""])
async def test_a_bill_without_a_recorded_price_is_refused(wrong: str) -> None:
    clock = FakeClock()
    prices = PriceCache(FakePriceBook(clock, [PRICE]), clock, timedelta(seconds=1))
    event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, PRICE.price.key, wrong, reported(1)),))
    with pytest.raises(UnknownPriceVersion):
        await attach_prices(event, prices=prices)


async def test_a_price_of_another_model_or_tenant_is_not_this_call_s() -> None:
    clock = FakeClock()
    foreign = replace(a_price("local/foreign"), tenant_id="ten_b")
    prices = PriceCache(FakePriceBook(clock, [PRICE, foreign]), clock, timedelta(seconds=1))
    for key, version in ((foreign.price.key, foreign.price.version), ("local/other", PRICE.price.version)):
        event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, key, version, reported(1)),))
        with pytest.raises(UnknownPriceVersion):
            await attach_prices(event, prices=prices)


async def test_what_is_not_billed_needs_no_price() -> None:
    clock = FakeClock()
    prices = PriceCache(FakePriceBook(clock), clock, timedelta(seconds=1))
    event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, "a/b", "", UNKNOWN), Attempt(2, "a/b", "", NONE)))
    assert await attach_prices(event, prices=prices) == event


def test_a_transaction_that_does_not_balance_cannot_be_made() -> None:
    with pytest.raises(UnbalancedTransaction):
        Transaction("txn_1", 1, TransactionKind.SETTLEMENT, (Entry(Account.RECEIVABLE, NanoUsd(1)),), NOW)


def test_nothing_to_post_is_no_transaction() -> None:
    assert post(1, TransactionKind.SETTLEMENT, owed=ZERO, exposed=ZERO, now=NOW) == []
