"""Random histories of reserving, announcing, settling, expiring, reconciling and replaying, at two replicas at once.

After each step plain SQL checks the invariants of the README.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

from chassis.errors import ArgosyError, Unavailable
from chassis.ids import new_id
from chassis.postgres import Database
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from metering.exposures.model import ReconcileRequest
from metering.reservations.model import PricedReservation
from metering.reservations.start_attempt import EndedAttempt, StartedAttempt
from metering.settlement.model import Decision, UsageEvent
from values.money import ClassPrices, NanoUsd
from values.usage import ExposureCause

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    LONG_LEASE,
    NONE,
    UNKNOWN,
    a_price,
    a_reservation,
    an_event,
    as_easy,
    expire_overdue,
    reported,
    with_classes,
)
from services.metering.tests.fakes import Stores

CAP, REQUESTS = 500, 6
PRICE = with_classes(a_price(), ClassPrices(cached_input=NanoUsd(300_000), cache_write=NanoUsd(1_500_000)))
ALTERNATIVE = a_price("far/dear", 3, 4)

request_numbers = st.integers(0, REQUESTS - 1)
steps = st.one_of(
    st.tuples(st.just("reserve"), st.lists(request_numbers, min_size=1, max_size=6)),
    st.tuples(st.just("settle"), st.lists(request_numbers, min_size=1, max_size=4)),
    st.tuples(st.just("start"), st.lists(request_numbers, min_size=1, max_size=4)),
    st.tuples(st.just("reconcile"), st.lists(request_numbers, min_size=1, max_size=2)),
    st.tuples(st.just("expire"), st.lists(request_numbers, max_size=0)),
)
# Steps that run concurrently, at the two replicas in turns.
concurrent_steps = st.lists(steps, min_size=1, max_size=4)
by_class = st.builds(reported, st.integers(1, 200), st.integers(0, 100), st.integers(0, 100))
usages = st.one_of(st.just(NONE), st.just(UNKNOWN), st.integers(1, 200).map(reported), by_class)
requests = st.tuples(st.integers(0, 200), st.sampled_from([LONG_LEASE, EXPIRED_LEASE]), st.lists(usages, max_size=3))

INVARIANTS = {
    "spent, held and exposed stay within the cap": "SELECT spent + held + exposed <= cap FROM budgets",
    "held is the sum of what is held": """
        SELECT (SELECT held FROM budgets) = coalesce(sum(held), 0) FROM reservations WHERE state = 'held'""",
    "spent is the sum of what was paid": """
        SELECT (SELECT spent FROM budgets) = coalesce(sum(cost + reconciled_cost), 0) FROM settlements""",
    "exposed is the sum of what counts and is not reconciled": """
        SELECT (SELECT exposed FROM budgets) = coalesce(sum(counted) FILTER (WHERE reconciliation IS NULL), 0)
        FROM settlements""",
    "every transaction sums to zero": """
        SELECT coalesce(bool_and(total = 0), true)
        FROM (SELECT sum(amount) AS total FROM ledger_entries GROUP BY transaction_id) AS t""",
    "the ledger agrees with the settlements": """
        SELECT coalesce(sum(amount) FILTER (WHERE account = 'receivable'), 0)
                = (SELECT coalesce(sum(cost + reconciled_cost), 0) FROM settlements)
            AND coalesce(sum(amount) FILTER (WHERE account = 'exposure'), 0)
                = (SELECT coalesce(sum(exposed) FILTER (WHERE reconciliation IS NULL), 0) FROM settlements)
        FROM ledger_entries""",
    "each side has its other side": """
        SELECT coalesce(sum(amount) FILTER (WHERE account IN ('receivable', 'revenue')), 0) = 0
            AND coalesce(sum(amount) FILTER (WHERE account IN ('exposure', 'suspense', 'written_off')), 0) = 0
        FROM ledger_entries""",
    "no request is charged more than was held": """
        SELECT coalesce(bool_and(charged <= held), true) FROM (
            SELECT r.held, sum(s.cost + s.counted) AS charged FROM reservations AS r
            JOIN settlements AS s USING (tenant_id, request_id) WHERE r.bounds <> '[]' GROUP BY r.request_id, r.held
        ) AS t""",
    "what is closed has an end and what is held has none": """
        SELECT coalesce(bool_and((state = 'held') = (settled = 0)), true) FROM (
            SELECT r.state, count(s.attempt) AS settled FROM reservations AS r
            LEFT JOIN settlements AS s USING (tenant_id, request_id) GROUP BY r.request_id, r.state
        ) AS t""",
    "the roll-up is the sum of the settlements": """
        SELECT (SELECT (coalesce(sum(calls), 0), coalesce(sum(input_tokens), 0), coalesce(sum(cost), 0))
                FROM usage_daily)
            = (SELECT (count(*)::numeric, coalesce(sum(input_tokens), 0), coalesce(sum(cost), 0)) FROM settlements
               WHERE attempt > 0 AND event_id <> '')""",
    "the roll-up of costs by class adds up to what was paid": """
        SELECT (SELECT coalesce(sum(input_cost + output_cost), 0) FROM usage_daily)
            = (SELECT coalesce(sum(cost), 0) FROM settlements WHERE attempt > 0 AND event_id <> '')""",
    "the roll-ups of right-sizing are the sum of the settlements": """
        SELECT (SELECT coalesce(sum(right_sizing_saved), 0) FROM usage_daily) = s.saved
            AND (SELECT (coalesce(sum(saved), 0), coalesce(sum(cost), 0)) FROM right_sizing_daily) = (s.saved, s.cost)
        FROM (SELECT coalesce(sum(right_sizing_saved), 0) AS saved,
                     coalesce(sum(cost) FILTER (WHERE right_sizing_saved IS NOT NULL), 0) AS cost
              FROM settlements) AS s""",
    "the roll-up by class is the sum of the settlements": """
        SELECT (SELECT jsonb_object_agg(class, jsonb_build_array(tokens, cost)) FROM (
                SELECT class, sum(tokens) AS tokens, sum(cost) AS cost FROM usage_classes_daily GROUP BY 1) AS d)
            IS NOT DISTINCT FROM (SELECT jsonb_object_agg(key, jsonb_build_array(tokens, cost)) FROM (
                SELECT c.key, sum((c.value ->> 0)::bigint) AS tokens, sum((c.value ->> 1)::bigint) AS cost
                FROM settlements AS s CROSS JOIN LATERAL jsonb_each(s.classes) AS c
                WHERE s.attempt > 0 AND s.event_id <> '' GROUP BY 1) AS p)""",
}


async def check_invariants(database: Database, tenant: str) -> None:
    async with database.tenant(tenant) as connection:
        for invariant, query in INVARIANTS.items():
            assert await connection.fetchval(query), invariant


async def retry_while_unavailable(act: Any, *arguments: Any) -> None:
    """Retry as a consumer does, while the database asks for it."""
    for _ in range(20):
        try:
            await act(*arguments)
        except Unavailable:
            continue
        except ArgosyError:
            return
        return
    raise AssertionError("unavailable 20 times in a row")


def start(
    step: tuple[str, list[int]], replica: Stores, reservations: list[PricedReservation], events: list[UsageEvent]
) -> list[Awaitable[None]]:
    kind, numbers = step
    if kind == "reserve":
        return [retry_while_unavailable(replica.reservations.reserve, reservations[number]) for number in numbers]
    if kind == "settle":
        return [retry_while_unavailable(replica.settlements.settle, [events[number] for number in numbers])]
    if kind == "start":
        return [retry_while_unavailable(replica.attempts.start_attempt, second(reservations[n])) for n in numbers]
    if kind == "reconcile":
        return [retry_while_unavailable(replica.exposures.reconcile, written_off(reservations[n])) for n in numbers]
    return [retry_while_unavailable(expire_overdue, replica, 3)]


def caused_by_client(event: UsageEvent) -> UsageEvent:
    """Make the unknown usage of the first two calls the client's doing, so that it counts."""
    attempts = (replace(row, cause=ExposureCause.CLIENT) if row.number < 3 else row for row in event.attempts)
    return replace(event, attempts=tuple(attempts))


def eased(event: UsageEvent) -> UsageEvent:
    """Make the first call of an event one of a cheap candidate, which answered where it is the only one."""
    return as_easy(event, ALTERNATIVE, answer=int(len(event.attempts) == 1)) if event.attempts else event


def second(priced: PricedReservation) -> StartedAttempt:
    """Announce the second call, on the same candidate; nothing is known of the first."""
    ended = EndedAttempt(1, PRICE.price.key, UNKNOWN, ExposureCause.PROVIDER)
    return StartedAttempt(priced.request.tenant_id, priced.request.request_id, 2, 0, [ended])


def written_off(priced: PricedReservation) -> ReconcileRequest:
    """Decide about the first call."""
    request = priced.request
    return ReconcileRequest(request.tenant_id, request.request_id, 1, Decision.WRITTEN_OFF, None, "key_1", "")


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(requests, min_size=REQUESTS, max_size=REQUESTS), st.lists(concurrent_steps, min_size=1, max_size=8))
async def test_no_interleaving_breaks_an_invariant(
    stores: Stores,
    other_stores: Stores,
    database: Database,
    drawn: list[tuple[int, Any, list[Any]]],
    history: list[list[tuple[str, list[int]]]],
) -> None:
    tenant = new_id("ten_")
    await stores.budgets.set_cap(tenant, NanoUsd(CAP))
    reservations = [a_reservation(tenant, PRICE, amount, lease=lease) for amount, lease, _ in drawn]
    events = [
        eased(caused_by_client(an_event(priced, *calls_used)))
        for priced, (_, _, calls_used) in zip(reservations, drawn, strict=True)
    ]

    for concurrent in history:
        running = [
            task
            for place, step in enumerate(concurrent)
            for task in start(step, (stores, other_stores)[place % 2], reservations, events)
        ]
        await asyncio.gather(*running)
        await check_invariants(database, tenant)

    # When every event has come, every call has exactly one settlement, and nothing is held. A call that was announced,
    # or that an ended lease implied, has one as well, when no event names it.
    await retry_while_unavailable(stores.settlements.settle, events)
    await check_invariants(database, tenant)
    for priced, (_, _, calls_used) in zip(reservations, drawn, strict=True):
        statement = await stores.settlements.statement(tenant, priced.request.request_id)
        calls = {row.attempt for row in statement.settlements if row.attempt > 0}
        announced = {attempt.number for attempt in statement.reservation.attempts}
        assert set(range(1, len(calls_used) + 1)) | announced <= calls <= set(range(1, len(calls_used) + 1)) | {1, 2}
    assert (await stores.budgets.read(tenant)).held == 0
