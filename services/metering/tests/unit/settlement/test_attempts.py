"""The arithmetic of announced attempts, exposure and the cap (ADR 19), over random histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, InvalidRequest
from chassis.testing import FakeClock
from hypothesis import given
from hypothesis import strategies as st
from metering.budgets.model import Budget, BudgetSpent
from metering.reservations.model import (
    Bound,
    RequestIdReused,
    RequestNotFound,
    Reservation,
    ReservationClosed,
    ReservationState,
)
from metering.reservations.start_attempt import EndedAttempt, StartedAttempt, announce, needed
from metering.settlement.expire import expire
from metering.settlement.model import Attempt, LockedRequest, Outcome, SettlementChanges, UsageEvent
from metering.settlement.settle import settle
from values.money import ZERO, ClassPrices, NanoUsd, cost
from values.usage import ExposureCause, TokenDetails, TokenUsage, UsageSource

from services.metering.tests.examples import NONE, UNKNOWN, a_price, with_classes

NOW = FakeClock().now()
CLASSES = ClassPrices(NanoUsd(500_000), NanoUsd(2_000_000), NanoUsd(3_000_000), NanoUsd(9_000_000), None, NanoUsd(0))
CHEAP, DEAR = a_price("local/cheap", 1, 1), a_price("far/dear", 100, 100)
CLASSED = with_classes(CHEAP, CLASSES)
CLIENT, PROVIDER, FLEET = ExposureCause.CLIENT, ExposureCause.PROVIDER, ExposureCause.FLEET

by_class = st.builds(TokenDetails, *(st.integers(0, 20) for _ in TokenDetails._fields))
usages = st.one_of(
    st.builds(
        lambda read, written, found: TokenUsage(UsageSource.REPORTED, read, written, found.within(read, written)),
        st.integers(0, 50),
        st.integers(0, 50),
        by_class,
    ),
    st.just(NONE),
    st.just(UNKNOWN),
    st.builds(TokenUsage, st.just(UsageSource.REPORTED), st.integers(0, 50), st.integers(0, 50)),
    st.just(TokenUsage(UsageSource.REPORTED, 10**9, 10**9)),
    st.just(TokenUsage(UsageSource.REPORTED, 5, None)),
)
causes = st.sampled_from(list(ExposureCause))
calls = st.tuples(st.integers(0, 2), usages, causes)
numbers_of = st.tuples(st.integers(0, 9000), st.integers(0, 4))
acts_of = st.sampled_from([("expire",), ("event",), ("expire", "event"), ("event", "event")])
policies = st.frozensets(causes)
bounds_of = st.lists(
    st.tuples(st.sampled_from([CLASSED, DEAR]), st.integers(0, 30), st.integers(0, 30)), min_size=3, max_size=3
)


def a_reservation(*bounds: Bound, state: ReservationState = ReservationState.HELD) -> Reservation:
    held = NanoUsd(max(bound.cost for bound in bounds))
    return Reservation("ten_a", "req_1", state, held, bounds, NOW, NOW + timedelta(hours=1))


def started(number: int, bound: int, *ended: EndedAttempt) -> StartedAttempt:
    return StartedAttempt("ten_a", "req_1", number, bound, ended)


def ended(number: int, bound: Bound, usage: TokenUsage, cause: ExposureCause = PROVIDER) -> EndedAttempt:
    return EndedAttempt(number, bound.row.price.key, usage, cause)


def an_event(*attempts: tuple[int, Bound, TokenUsage, ExposureCause]) -> UsageEvent:
    rows = (
        Attempt(number, bound.row.price.key, bound.row.price.version, usage, bound.row.price, cause)
        for number, bound, usage, cause in attempts
    )
    return UsageEvent("ten_a", "evt_1", "req_1", tuple(rows))


def a_budget_that_holds(reservation: Reservation, left: int) -> Budget:
    return Budget(NanoUsd(reservation.held + left), held=reservation.held)


def apply(budget: Budget, change: SettlementChanges) -> Budget:
    return budget.adjusted(spent=change.spent, held=change.held, exposed=change.exposed)


@given(bounds_of, st.lists(calls, min_size=1, max_size=4), numbers_of, policies, acts_of)
def test_whatever_dies_when_every_call_is_settled_once_on_its_own_candidate_within_the_cap(
    drawn_bounds: list[tuple[object, int, int]],
    history: list[tuple[int, TokenUsage, ExposureCause]],
    numbers: tuple[int, int],
    policy: frozenset[ExposureCause],
    acts: tuple[str, ...],
) -> None:
    """Attempts are announced one by one; then the lease ends, an event comes, or one after the other.

    `numbers` are what the budget has left, and how many calls the event knows: the orchestrator may have died before
    the last one was reported to it.
    """
    left, named = numbers
    bounds = tuple(Bound(*bound) for bound in drawn_bounds)  # type: ignore[arg-type]
    reservation = a_reservation(*bounds)
    budget = a_budget_that_holds(reservation, left)
    made: list[tuple[int, Bound, TokenUsage, ExposureCause]] = []
    place = 0
    for number, (step, usage, cause) in enumerate(history, 1):
        place = min(place + step, 2) if number > 1 else 0
        if number > 1:
            before = [EndedAttempt(n, b.row.price.key, u, c) for n, b, u, c in made]
            try:
                after = announce(started(number, place, *before), reservation, budget)
            except BudgetSpent:
                break
            budget = budget.adjusted(held=NanoUsd(after.held - reservation.held))
            reservation = after
        made.append((number, bounds[place], usage, cause))
        assert budget.available >= 0
        assert reservation.held >= needed(reservation.attempts, bounds) if reservation.attempts else True

    request, changes = LockedRequest(reservation), []
    event = an_event(*made[: max(1, named)])
    for act in acts:
        change = (
            expire(request, NOW, policy) if act == "expire" else settle(event, request, budget.available, NOW, policy)
        )
        budget = apply(budget, change)
        request = change.apply_to(request)
        changes.append(change)
        assert min(budget.available, budget.spent, budget.held, budget.exposed) >= 0
        assert request.charged <= reservation.held
        rows = {row.attempt: row for part in changes for row in part.settlements}
        assert sorted(rows) == [number for number, *_ in made]
        for number, bound, *_ in made:
            assert rows[number].price_key in (bound.row.price.key, "")
            assert rows[number].cost + rows[number].exposed <= bound.cost
        assert budget.spent == sum(row.cost for row in rows.values())
        assert budget.exposed == sum(row.counted for row in rows.values())
    assert budget.held == 0


def test_a_worker_that_dies_on_the_second_candidate_leaves_one_settlement_for_each_call() -> None:
    first, second = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0)
    reservation = a_reservation(first, second)
    budget = a_budget_that_holds(reservation, 5000)
    reservation = announce(started(2, 1, ended(1, first, UNKNOWN)), reservation, budget)
    change = expire(LockedRequest(reservation), NOW)

    assert [(row.attempt, row.price_key, row.outcome, row.exposed, row.cause) for row in change.settlements] == [
        (1, "local/cheap", Outcome.EXPOSED, 10, PROVIDER),
        (2, "far/dear", Outcome.EXPOSED, 1000, FLEET),
    ]
    assert change.exposed == 0  # the operator bears it


def test_an_event_that_does_not_know_the_last_announced_call_leaves_it_exposed_at_its_bound() -> None:
    first, second = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0)
    reservation = announce(
        started(2, 1, ended(1, first, NONE)), a_reservation(first, second), Budget(NanoUsd(1000), held=NanoUsd(1000))
    )
    change = settle(an_event((1, first, NONE, PROVIDER)), LockedRequest(reservation), ZERO, NOW)

    assert [(row.attempt, row.outcome, row.exposed, row.cause) for row in change.settlements] == [
        (1, Outcome.RELEASED, 0, None),
        (2, Outcome.EXPOSED, 1000, FLEET),
    ]


def test_an_announced_usage_is_billed_when_the_lease_ends_and_a_late_event_does_not_bill_it_again() -> None:
    first, second = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0)
    used = TokenUsage(UsageSource.REPORTED, 4, 0)
    budget = Budget(NanoUsd(2000), held=NanoUsd(1000))
    reservation = announce(started(2, 1, ended(1, first, used)), a_reservation(first, second), budget)
    budget = budget.adjusted(held=NanoUsd(reservation.held - 1000))
    expired = expire(LockedRequest(reservation), NOW)
    late = settle(
        an_event((1, first, used, PROVIDER), (2, second, used, PROVIDER)),
        expired.apply_to(LockedRequest(reservation)),
        apply(budget, expired).available,
        NOW,
    )

    assert (expired.spent, late.spent) == (4, 400)
    assert [(row.attempt, row.outcome, row.cost, row.exposed) for row in late.settlements] == [
        (2, Outcome.BILLED, 400, 0)
    ]


def test_the_hold_covers_what_ended_attempts_may_have_cost_and_the_dearest_that_is_left() -> None:
    bounds = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0), Bound(CHEAP, 20, 0)
    reservation, budget = a_reservation(*bounds), Budget(NanoUsd(10_000), held=NanoUsd(1000))
    known = TokenUsage(UsageSource.COUNTED, 3, 0)

    assert announce(started(2, 1, ended(1, bounds[0], NONE)), reservation, budget).held == 1000
    assert announce(started(2, 1, ended(1, bounds[0], known)), reservation, budget).held == 1003
    second = announce(started(2, 1, ended(1, bounds[0], UNKNOWN)), reservation, budget)
    assert second.held == 1010
    third = announce(started(3, 2, ended(2, bounds[1], UNKNOWN)), second, budget)
    assert third.held == 10 + 1000 + 20
    assert [attempt.bound for attempt in third.attempts] == [0, 1, 2]


def test_announcing_is_safe_to_repeat_and_never_moves_an_attempt_to_another_candidate() -> None:
    bounds = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0)
    budget = Budget(NanoUsd(10_000), held=NanoUsd(1000))
    once = announce(started(2, 1, ended(1, bounds[0], UNKNOWN, CLIENT)), a_reservation(*bounds), budget)
    again = announce(started(2, 1, ended(1, bounds[0], NONE)), once, budget)
    assert again == once
    with pytest.raises(RequestIdReused):
        announce(started(2, 0), once, budget)


def test_a_refused_announcement_says_why_and_changes_nothing() -> None:
    bounds = Bound(CHEAP, 10, 0), Bound(DEAR, 10, 0)
    reservation = a_reservation(*bounds)
    full = Budget(NanoUsd(1009), held=NanoUsd(1000))
    refusals: list[tuple[type[ArgosyError], Reservation | None, StartedAttempt]] = [
        (BudgetSpent, reservation, started(2, 1, ended(1, bounds[0], UNKNOWN))),
        (RequestNotFound, None, started(2, 1)),
        (ReservationClosed, reservation.with_state(ReservationState.EXPIRED), started(2, 1)),
        (ReservationClosed, reservation.with_state(ReservationState.SETTLED), started(2, 1)),
        (InvalidRequest, reservation, started(2, 2)),
        (InvalidRequest, reservation, started(2, -1)),
        (InvalidRequest, reservation, started(2, 1, EndedAttempt(1, "x/other", UNKNOWN, CLIENT))),
    ]
    for error, current, request in refusals:
        with pytest.raises(error):
            announce(request, current, full)


def test_what_a_client_causes_counts_against_the_cap_and_what_others_cause_does_not() -> None:
    bound = Bound(DEAR, 10, 0)
    for cause, counted in ((CLIENT, 1000), (PROVIDER, 0), (FLEET, 0)):
        change = settle(an_event((1, bound, UNKNOWN, cause)), LockedRequest(a_reservation(bound)), ZERO, NOW)
        assert (change.exposed, change.settlements[0].exposed) == (counted, 1000)
        everything = frozenset(ExposureCause)
        change = settle(
            an_event((1, bound, UNKNOWN, cause)), LockedRequest(a_reservation(bound)), ZERO, NOW, everything
        )
        assert change.exposed == 1000


def test_usage_above_the_bound_is_taken_at_the_bound_and_kept_as_it_was_reported() -> None:
    bound, lie = Bound(DEAR, 10, 5), TokenUsage(UsageSource.REPORTED, 10**9, 10**9)
    (row,) = settle(an_event((1, bound, lie, PROVIDER)), LockedRequest(a_reservation(bound)), ZERO, NOW).settlements

    assert (row.usage, row.reported) == (TokenUsage(UsageSource.REPORTED, 10, 5), lie)
    assert (row.cost, row.exposed) == (cost(10, 5, DEAR.price), 0)


def test_usage_of_a_candidate_that_was_not_reserved_is_bounded_as_well() -> None:
    bound, lie = Bound(CHEAP, 10, 5), TokenUsage(UsageSource.REPORTED, 10**9, 10**9)
    other = replace(bound, row=a_price("x/unforeseen", 2, 2))
    (row,) = settle(an_event((1, other, lie, PROVIDER)), LockedRequest(a_reservation(bound)), ZERO, NOW).settlements

    assert (row.cost, row.exposed, row.cause) == (15, 15, PROVIDER)
