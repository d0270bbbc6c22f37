"""All writers of several tenants at once, in random groups: Postgres ends none of them, and the books stay exact."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from chassis.errors import ArgosyError, Unavailable
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.settings import PostgresSection
from metering.exposures.model import ReconcileRequest
from metering.reservations.model import PricedReservation, RequestRef
from metering.reservations.start_attempt import EndedAttempt, StartedAttempt
from metering.settlement.hits import Hit, Hits
from metering.settlement.model import Decision, UsageEvent
from values.money import NanoUsd
from values.usage import ExposureCause

from services.metering.tests.examples import (
    EXPIRED_LEASE,
    LONG_LEASE,
    UNKNOWN,
    a_price,
    a_reservation,
    an_event,
    as_cached,
    reported,
)
from services.metering.tests.fakes import Stores
from services.metering.tests.integration.conftest import stores_in

ROUNDS = int(os.environ.get("DEADLOCK_ROUNDS", "40"))
AT_ONCE = 12
PRICE, FREE = a_price(), a_price("local/cached", 0, 0)
ANY_SESSION_WAITS = "SELECT count(*) > 0 FROM pg_locks WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))"


class Writers:
    """The calls of one replica about the same requests of four tenants, each in an order of its own."""

    def __init__(self, stores: Stores, chosen: random.Random) -> None:
        self.stores, self.random = stores, chosen
        tenants = [new_id("ten_") for _ in range(4)]
        self.reservations = [
            a_reservation(tenant, PRICE, 7, lease=chosen.choice([EXPIRED_LEASE, LONG_LEASE]))
            for tenant in tenants
            for _ in range(4)
        ]
        # A request that gets a cached answer reserves nothing.
        self.hits = [a_reservation(tenant, PRICE, 7) for tenant in tenants for _ in range(2)]
        self.calls: list[Callable[[], Awaitable[Any]]] = [
            self.reserve,
            self.settle,
            self.settle,
            self.settle_hits,
            self.expire,
            self.extend,
            self.start,
            self.reconcile,
            self.set_cap,
        ]

    def some(self) -> list[PricedReservation]:
        return self.random.sample(self.reservations, 6)

    async def reserve(self) -> None:
        await asyncio.gather(*(self.stores.reservations.reserve(one) for one in self.some()))

    async def settle(self) -> None:
        usages = [reported(3), UNKNOWN]
        await self.stores.settlements.settle([an_event(one, self.random.choice(usages)) for one in self.some()])

    async def settle_hits(self) -> None:
        some = self.random.sample(self.hits, 6)
        answers = [as_cached(an_event(one, reported(3, cached=3), price=FREE), PRICE) for one in some]
        hits = [Hit(one.request.request_id, "prj_1", "key_1", place) for place, one in enumerate(some)]
        await self.stores.settlements.settle_hits(Hits(answers, hits))

    async def expire(self) -> None:
        await self.stores.settlements.expire(self._refs())

    async def extend(self) -> None:
        await self.stores.leases.extend(self._refs(), timedelta(0))

    async def start(self) -> None:
        ended = [EndedAttempt(1, PRICE.price.key, UNKNOWN, ExposureCause.PROVIDER)]
        for one in self.some():
            started = StartedAttempt(one.request.tenant_id, one.request.request_id, 2, 0, ended)
            await self.stores.attempts.start_attempt(started)

    async def reconcile(self) -> None:
        for one in self.some():
            key = (one.request.tenant_id, one.request.request_id)
            await self.stores.exposures.reconcile(ReconcileRequest(*key, 1, Decision.WRITTEN_OFF, None, "key_1", ""))

    async def set_cap(self) -> None:
        await self.stores.budgets.set_cap(self.random.choice(self.reservations).request.tenant_id, NanoUsd(2_000_000))

    def _refs(self) -> list[RequestRef]:
        return [RequestRef(one.request.tenant_id, one.request.request_id) for one in self.some()]


async def failure(call: Awaitable[Any]) -> str:
    """The deadlock that ended the call; empty where it went on, was refused, or has to be made again later."""
    try:
        await call
    except Unavailable as error:
        return str(error) if "Deadlock" in str(error) else ""
    except ArgosyError:
        pass
    return ""


@pytest.mark.parametrize("seed", range(2))
async def test_no_two_writers_wait_for_each_other(seed: int, section: PostgresSection, stores: Stores) -> None:
    chosen, failures = random.Random(seed), []
    async with Database(section, "metering") as first, Database(section, "metering") as second:
        for _ in range(ROUNDS // 2):
            writers = Writers(stores_in(first), chosen)
            other = Writers(stores_in(second), chosen)
            other.reservations, other.hits = writers.reservations, writers.hits
            await writers.reserve()
            calls = [chosen.choice(chosen.choice([writers, other]).calls) for _ in range(AT_ONCE)]
            failures += [end for end in await asyncio.gather(*(failure(call()) for call in calls)) if end]

    assert failures == []
    assert (await stores.ledger.audit()).drift == 0


async def test_requests_that_reserved_nothing_are_written_in_one_order(
    stores: Stores, section: PostgresSection
) -> None:
    # As `insert_hits` does, which writes such requests without a lock of their budget.
    tenant = new_id("ten_")
    first, second = (a_reservation(tenant, PRICE, 7, request_id=f"req_{number}") for number in (1, 2))
    events: list[UsageEvent] = [an_event(second, reported(5)), an_event(first, reported(5))]
    insert = (
        "INSERT INTO metering.reservations (tenant_id, request_id, state, held, bounds, project_id, key_id,"
        " created_at, expires_at, closed_at) VALUES ($1, $2, 'settled', 0, '[]', 'p', 'k', now(), now(), now())"
    )
    assert section.owner_dsn is not None  # it leads to Postgres itself
    other = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    transaction = other.transaction()
    await transaction.start()
    await other.execute(insert, tenant, "req_1")
    settling = asyncio.create_task(stores.settlements.settle(events))
    while not await other.fetchval(ANY_SESSION_WAITS):
        await asyncio.sleep(0.001)
    await other.execute("SET LOCAL lock_timeout = '200ms'")
    await other.execute(insert, tenant, "req_2")
    await transaction.rollback()
    await other.close()

    assert [change.reservation.request_id for change in await settling] == ["req_2", "req_1"]
