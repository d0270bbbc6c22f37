"""Rules that hold for every settlement, whatever is told in whatever order."""

from datetime import timedelta

import pytest
from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.domain.budgets import Budget
from metering.domain.ledger import Account, Cause, Entry, Transaction, Unbalanced, book
from metering.domain.money import NOTHING, NanoUsd
from metering.domain.prices import Prices, UnknownPriceVersion
from metering.domain.reservations import Bound, Reservation, State
from metering.domain.settlement import (
    Attempt,
    OpenAccount,
    Outcome,
    Posting,
    Settlement,
    UsageEvent,
    expire,
    settle,
    settle_all,
    with_prices,
)
from metering.domain.usage import Source, Usage

from services.metering.tests.examples import NONE, UNKNOWN, a_hold, a_price, an_event, reported
from services.metering.tests.fakes import FakePriceBook

NOW = FakeClock().now()
PRICE = a_price()
ADDENDS = {Account.RECEIVABLE: Account.REVENUE, Account.EXPOSURE: Account.SUSPENSE}

usages = st.one_of(
    st.just(NONE), st.just(UNKNOWN), st.integers(1, 200).map(reported), st.just(Usage(Source.REPORTED, 5))
)
histories = st.lists(
    st.one_of(st.just("expire"), st.dictionaries(st.integers(1, 4), usages, max_size=4)), min_size=1, max_size=6
)


def an_account(held: int, state: State = State.HELD) -> OpenAccount:
    bounds = (Bound(PRICE, held, 0),)
    return OpenAccount(Reservation("ten_a", "req_1", state, NanoUsd(held), bounds, NOW, NOW + timedelta(hours=1)))


def telling(attempts: dict[int, Usage]) -> UsageEvent:
    calls = tuple(Attempt(n, PRICE.price_key, PRICE.version, usage, PRICE) for n, usage in sorted(attempts.items()))
    return UsageEvent("ten_a", "evt_1", "req_1", calls)


@given(st.integers(0, 300), st.integers(0, 300), histories)
def test_no_history_breaks_the_cap_bills_twice_or_loses_a_call(
    held: int, others: int, history: list[str | dict[int, Usage]]
) -> None:
    account, free = an_account(held), NanoUsd(others)
    budget_held, told, postings = held, set(), []
    for step in history:
        if step == "expire":
            if account.reservation is None or account.reservation.state is not State.HELD:
                continue
            posting = expire(account, NOW)
        else:
            assert isinstance(step, dict)
            told |= set(step)
            posting = settle(telling(step), account, free, NOW)
        postings.append(posting)
        account = posting.after(account)
        budget_held += posting.held
        free = NanoUsd(free - posting.spent - posting.held)
        assert free >= 0
        assert budget_held >= 0

    calls = [row.attempt for posting in postings for row in posting.settlements if row.attempt > 0]
    assert sorted(calls) == sorted(told)
    assert account.paid <= held
    assert totals(postings)[Account.RECEIVABLE] == account.paid
    assert totals(postings)[Account.EXPOSURE] == sum(row.exposed for row in final(postings))
    assert all(totals(postings)[credit] == -totals(postings)[debit] for debit, credit in ADDENDS.items())


def totals(postings: list[Posting]) -> dict[Account, int]:
    lines = [entry for posting in postings for transaction in posting.transactions for entry in transaction.entries]
    return {account: sum(entry.amount for entry in lines if entry.account is account) for account in Account}


def final(postings: list[Posting]) -> list[Settlement]:
    return list({row.attempt: row for posting in postings for row in posting.settlements}.values())


def test_only_what_is_held_expires() -> None:
    for state in (State.SETTLED, State.EXPIRED):
        with pytest.raises(ValueError, match="held"):
            expire(an_account(10, state), NOW)
    with pytest.raises(ValueError, match="held"):
        expire(OpenAccount(), NOW)


@pytest.mark.parametrize(
    ("usage", "outcome"),
    [
        (Usage(Source.REPORTED, 0, 0), Outcome.RELEASED),
        (Usage(Source.COUNTED, 0, 1), Outcome.BILLED),
        (Usage(Source.COUNTED, 1, 0), Outcome.BILLED),
        (Usage(Source.REPORTED, 1, None), Outcome.EXPOSED),
        (Usage(Source.REPORTED, None, 1), Outcome.EXPOSED),
        (Usage(Source.REPORTED, None, None), Outcome.EXPOSED),
        (Usage(Source.UNKNOWN, 1, 1), Outcome.EXPOSED),
        (Usage(Source.UNKNOWN, 0, 0), Outcome.EXPOSED),
    ],
)
def test_an_explicit_zero_is_a_value_and_an_absent_count_is_unknown(usage: Usage, outcome: Outcome) -> None:
    (settlement,) = settle(telling({1: usage}), an_account(100), NOTHING, NOW).settlements
    assert settlement.outcome is outcome


def test_a_call_of_a_model_that_costs_nothing_is_billed_nothing() -> None:
    free_price = a_price("local/free", 0, 0)
    posting = settle(an_event(a_hold("ten_a", free_price, 5), reported(5)), an_account(0), NOTHING, NOW)
    assert [(row.outcome, row.cost) for row in posting.settlements] == [(Outcome.BILLED, 0)]
    assert posting.transactions == ()


def test_each_event_of_a_request_is_settled_upon_all_that_went_before_it() -> None:
    hold = a_hold("ten_a", PRICE, 10, request_id="req_1")
    account = an_account(10)
    events = [an_event(hold, reported(4), first=number) for number in (1, 2, 3, 1, 2, 3)]
    postings = settle_all(events, {("ten_a", "req_1"): account}, {"ten_a": Budget(NanoUsd(10), held=NanoUsd(10))}, NOW)
    assert [posting.spent for posting in postings] == [4, 4, 2, 0, 0, 0]
    assert [posting.held for posting in postings] == [-10, 0, 0, 0, 0, 0]
    assert postings[2].settlements[0].exposed == 2


def test_unknown_usage_exposes_the_bound_of_its_own_candidate() -> None:
    other = a_price("local/other", 5, 5)
    reservation = Reservation(
        "ten_a", "req_1", State.HELD, NanoUsd(500), (Bound(PRICE, 10, 0), Bound(other, 100, 0)), NOW, NOW
    )
    calls = tuple(
        Attempt(number, key, "", UNKNOWN)
        for number, key in enumerate([PRICE.price_key, other.price_key, "x/unforeseen"], 1)
    )
    posting = settle(UsageEvent("ten_a", "evt_1", "req_1", calls), OpenAccount(reservation), NOTHING, NOW)
    assert [row.exposed for row in posting.settlements] == [10, 500, 500]


async def test_each_billed_call_gets_the_price_that_was_recorded() -> None:
    clock = FakeClock()
    older, newer = a_price(), a_price()
    prices = Prices(FakePriceBook(clock, [older, newer]), clock, timedelta(seconds=1))
    event = an_event(a_hold("ten_a", older, 5), reported(5), UNKNOWN)
    priced = await with_prices(event, prices=prices)
    assert [attempt.price for attempt in priced.attempts] == [older, older]


@pytest.mark.parametrize("wrong", ["prc_none", ""])
async def test_a_bill_without_a_recorded_price_is_refused(wrong: str) -> None:
    clock = FakeClock()
    prices = Prices(FakePriceBook(clock, [PRICE]), clock, timedelta(seconds=1))
    event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, PRICE.price_key, wrong, reported(1)),))
    with pytest.raises(UnknownPriceVersion):
        await with_prices(event, prices=prices)


async def test_a_price_of_another_model_or_tenant_is_not_this_call_s() -> None:
    clock = FakeClock()
    foreign = a_price("local/foreign")
    foreign = type(foreign)(
        foreign.price_key,
        foreign.version,
        foreign.input_per_million,
        foreign.output_per_million,
        foreign.effective_at,
        "ten_b",
    )
    prices = Prices(FakePriceBook(clock, [PRICE, foreign]), clock, timedelta(seconds=1))
    for key, version in ((foreign.price_key, foreign.version), ("local/other", PRICE.version)):
        event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, key, version, reported(1)),))
        with pytest.raises(UnknownPriceVersion):
            await with_prices(event, prices=prices)


async def test_what_is_not_billed_needs_no_price() -> None:
    clock = FakeClock()
    prices = Prices(FakePriceBook(clock), clock, timedelta(seconds=1))
    event = UsageEvent("ten_a", "evt_1", "req_1", (Attempt(1, "a/b", "", UNKNOWN), Attempt(2, "a/b", "", NONE)))
    assert await with_prices(event, prices=prices) == event


def test_a_transaction_that_does_not_balance_cannot_be_made() -> None:
    with pytest.raises(Unbalanced):
        Transaction("txn_1", 1, Cause.SETTLEMENT, (Entry(Account.RECEIVABLE, NanoUsd(1)),), NOW)


def test_nothing_to_book_is_no_transaction() -> None:
    assert book(1, Cause.SETTLEMENT, owed=NOTHING, exposed=NOTHING, now=NOW) == []
