"""Constraints of the database: rows of other tenants, changes of history and unbalanced transactions are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from chassis.ids import new_id
from chassis.postgres import Database
from chassis.postgres.provision import with_database
from chassis.settings import PostgresSection
from chassis.testing.postgres import superuser_dsn
from metering.budgets.model import BudgetSpent
from metering.prices.model import PriceEdit
from metering.usage.model import CacheUse
from values.money import NanoUsd
from values.usage import CacheOutcome

from services.metering.tests.examples import EXPIRED_LEASE, UNKNOWN, a_price, a_reservation, an_event, as_easy, reported
from services.metering.tests.fakes import Stores

TABLES = (
    "budgets",
    "reservations",
    "settlements",
    "ledger_transactions",
    "ledger_entries",
    "usage_daily",
    "usage_classes_daily",
    "cache_daily",
    "right_sizing_daily",
    "prices",
)
# They hold rows for a moment only.
QUEUES = ("budget_notices", "outbox")
IMMUTABLE = ("prices", "ledger_transactions", "ledger_entries")


@pytest.fixture
async def tenant(stores: Stores) -> str:
    """A tenant with rows in every table but prices."""
    tenant, price = new_id("ten_"), a_price()
    priced = a_reservation(tenant, price, 300)
    await stores.reservations.reserve(priced)
    event = as_easy(an_event(priced, reported(100, 30), UNKNOWN), price)
    await stores.settlements.settle([replace(event, cache=CacheUse(CacheOutcome.MISS, "gpt"))])
    return tenant


@pytest.fixture
async def owner(section: PostgresSection) -> AsyncIterator[Any]:
    assert section.owner_dsn is not None
    connection = await asyncpg.connect(section.owner_dsn.get_secret_value(), server_settings={"argosy.tenant": "*"})
    yield connection
    await connection.close()


@pytest.fixture
async def stranger(section: PostgresSection) -> AsyncIterator[Any]:
    """A connection of the app role without a tenant."""
    connection = await asyncpg.connect(section.dsn.get_secret_value())
    yield connection
    await connection.close()


@pytest.mark.parametrize("table", TABLES)
async def test_a_tenant_sees_its_own_rows_and_no_others(database: Database, tenant: str, table: str) -> None:
    if table == "prices":
        async with database.tenant(tenant) as connection:
            await connection.execute("INSERT INTO prices VALUES ($1, 'prc_own', 'local/own', 1, 1)", tenant)
    query = f"SELECT count(*) FROM metering.{table} WHERE tenant_id = $1"
    async with database.tenant(tenant) as connection:
        assert await connection.fetchval(query, tenant) > 0
        assert await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id NOT IN ($1, '*')", tenant) == 0
    async with database.tenant(new_id("ten_")) as connection:
        assert await connection.fetchval(query, tenant) == 0
        assert await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id <> '*'") == 0


@pytest.mark.parametrize("table", TABLES)
async def test_a_session_without_a_tenant_sees_no_tenant_s_rows(stranger: Any, tenant: str, table: str) -> None:
    assert await stranger.fetchval(f"SELECT count(*) FROM metering.{table} WHERE tenant_id <> '*'") == 0


async def test_every_table_of_the_schema_forces_row_level_security(owner: Any) -> None:
    rows = await owner.fetch(
        "SELECT relname, relrowsecurity AND relforcerowsecurity AS forced FROM pg_class"
        " WHERE relnamespace = 'metering'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'schema%'"
    )
    assert {row["relname"] for row in rows} == {*TABLES, *QUEUES}
    assert all(row["forced"] for row in rows)


async def test_a_tenant_cannot_write_rows_of_another(database: Database, tenant: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.tenant(new_id("ten_")) as connection:
            await connection.execute("INSERT INTO budgets VALUES ($1, 'key', 'key_1', 5)", tenant)
    async with database.tenant(new_id("ten_")) as connection:
        assert await connection.execute("UPDATE budgets SET cap = 9000000 WHERE tenant_id = $1", tenant) == "UPDATE 0"


async def test_a_tenant_reads_prices_of_all_tenants_and_cannot_make_them(database: Database, stores: Stores) -> None:
    keys = [f"local/{new_id('m')}" for _ in range(2)]
    for number, key in enumerate(keys):
        await stores.price_book.add(key, NanoUsd(number), NanoUsd(0))
    async with database.tenant(new_id("ten_")) as connection:
        rows = await connection.fetch(
            "SELECT price_key, input_per_million, output_per_million FROM prices WHERE price_key = ANY ($1)"
            " ORDER BY input_per_million",
            keys,
        )
    assert [tuple(row) for row in rows] == [(keys[0], 0, 0), (keys[1], 1, 0)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        async with database.tenant(new_id("ten_")) as connection:
            await connection.execute("INSERT INTO prices VALUES ('*', 'prc_cheap', 'local/x', 0, 0)")


@pytest.mark.parametrize("table", IMMUTABLE)
@pytest.mark.parametrize("change", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_the_service_may_not_change_history(database: Database, tenant: str, table: str, change: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.system() as connection:
            await connection.execute(change.format(f"metering.{table}"))


@pytest.mark.parametrize("table", IMMUTABLE)
@pytest.mark.parametrize("change", ["UPDATE {} SET tenant_id = tenant_id", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
async def test_not_even_the_owner_changes_history(
    owner: Any, stores: Stores, tenant: str, table: str, change: str
) -> None:
    await stores.price_book.add(new_id("local/"), NanoUsd(1), NanoUsd(1))  # a row trigger needs a row
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match=r"are_immutable|are_not_truncated"):
        await owner.execute(change.format(f"metering.{table}"))


@pytest.mark.parametrize("table", ["budgets", "reservations", "settlements", "usage_daily"])
async def test_the_service_deletes_no_rows(database: Database, tenant: str, table: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.tenant(tenant) as connection:
            await connection.execute(f"DELETE FROM metering.{table}")


async def test_the_settlement_of_a_call_is_final(database: Database, tenant: str) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="settled_calls_are_final"):
        async with database.tenant(tenant) as connection:
            await connection.execute("UPDATE settlements SET cost = 0 WHERE attempt = 1")


@pytest.mark.parametrize("change", ["held = held - 1", "bounds = '[1]'"])
async def test_what_is_held_only_grows(database: Database, stores: Stores, change: str) -> None:
    tenant = new_id("ten_")
    await stores.reservations.reserve(a_reservation(tenant, a_price(), 300))
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="reservations_only_close"):
        async with database.tenant(tenant) as connection:
            await connection.execute(f"UPDATE reservations SET {change}")


@pytest.mark.parametrize("attempt", [1, 2])
async def test_a_decision_about_an_exposure_is_written_once_and_changes_nothing_else(
    database: Database, tenant: str, attempt: int
) -> None:
    decide = "UPDATE settlements SET reconciliation = 'written_off', reconciled_at = now() WHERE attempt = $1"
    cheat = decide.replace("SET", "SET exposed = exposed + 1,")
    for change in (cheat, *([decide] if attempt == 1 else [])):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="settled_calls_are_final"):
            async with database.tenant(tenant) as connection:
                await connection.execute(change, attempt)
    if attempt == 2:
        async with database.tenant(tenant) as connection:
            await connection.execute(decide, attempt)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="settled_calls_are_final"):
            async with database.tenant(tenant) as connection:
                await connection.execute(decide, attempt)


@pytest.mark.parametrize(
    "change", ["state = 'held'", "state = 'expired'", "held = held + 1", "bounds = '[1]'", "attempts = '[1]'"]
)
async def test_a_settled_reservation_stays_as_it_is(database: Database, tenant: str, change: str) -> None:
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="reservations_only_close"):
        async with database.tenant(tenant) as connection:
            await connection.execute(f"UPDATE reservations SET {change}")


@pytest.mark.parametrize(
    "change",
    [
        "held = cap - spent + 1",
        "spent = cap + 1",
        "cap = spent - 1",
        "held = -1",
        "spent = -1",
        "held = 2^63 - 1",
        "exposed = cap - spent + 1",
        "exposed = -1",
        "exposed = 2^63 - 1",
    ],
)
async def test_no_statement_breaks_the_cap(database: Database, tenant: str, change: str) -> None:
    with pytest.raises((asyncpg.CheckViolationError, asyncpg.NumericValueOutOfRangeError)):
        async with database.tenant(tenant) as connection:
            await connection.execute(f"UPDATE budgets SET {change}")


async def post_by_hand(connection: Any, tenant: str, *amounts: int, transaction_id: str | None = None) -> str:
    """Write a transaction by hand."""
    name = transaction_id or new_id("txn_")
    if transaction_id is None:
        await connection.execute(
            "INSERT INTO ledger_transactions (tenant_id, transaction_id, kind) VALUES ($1, $2, 'correction')",
            tenant,
            name,
        )
    first = await connection.fetchval("SELECT count(*) FROM ledger_entries WHERE transaction_id = $1", name)
    for line, amount in enumerate(amounts, first + 1):
        await connection.execute(
            "INSERT INTO ledger_entries (tenant_id, transaction_id, line, account, amount)"
            " VALUES ($1, $2, $3, 'suspense', $4)",
            tenant,
            name,
            line,
            amount,
        )
    return name


@pytest.mark.parametrize("amounts", [(1,), (5, -4), (2**63 - 1, 2**63 - 1)])
async def test_a_transaction_that_does_not_sum_to_zero_is_not_committed(
    database: Database, tenant: str, amounts: tuple[int, ...]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="not to 0"):
        async with database.tenant(tenant) as connection:
            name = await post_by_hand(connection, tenant, *amounts)
    async with database.tenant(tenant) as connection:
        assert not await connection.fetchval("SELECT count(*) FROM ledger_entries WHERE transaction_id = $1", name)


async def test_a_balanced_transaction_is_committed_and_takes_no_further_line(database: Database, tenant: str) -> None:
    async with database.tenant(tenant) as connection:
        name = await post_by_hand(connection, tenant, 5, -3, -2)
    with pytest.raises(asyncpg.CheckViolationError, match="not to 0"):
        async with database.tenant(tenant) as connection:
            await post_by_hand(connection, tenant, 7, transaction_id=name)


async def test_switching_to_another_tenant_before_the_commit_does_not_hide_an_imbalance(
    database: Database, tenant: str
) -> None:
    async def post_and_switch_tenant() -> None:
        async with database.tenant(tenant) as connection:
            await post_by_hand(connection, tenant, 5)
            await connection.execute("SELECT set_config('argosy.tenant', 'ten_nobody', true)")

    with pytest.raises(asyncpg.CheckViolationError, match="not to 0"):
        await post_and_switch_tenant()


async def test_an_attempt_is_posted_once(database: Database, tenant: str) -> None:
    with pytest.raises(asyncpg.UniqueViolationError, match="ledger_posts_each_attempt_once"):
        async with database.tenant(tenant) as connection:
            await connection.execute(
                "INSERT INTO ledger_transactions (tenant_id, transaction_id, request_id, attempt, kind)"
                " SELECT tenant_id, 'txn_again', request_id, attempt, kind FROM ledger_transactions"
            )


async def test_a_sum_that_would_overflow_is_refused_by_the_budget(stores: Stores) -> None:
    tenant, expensive = new_id("ten_"), a_price("local/expensive", 10**9, 10**9)
    await stores.budgets.set_cap(tenant, NanoUsd(2**63 - 1))
    for _ in range(9):
        await stores.reservations.reserve(a_reservation(tenant, expensive, 10**9))
    with pytest.raises(BudgetSpent):
        await stores.reservations.reserve(a_reservation(tenant, expensive, 10**9))


async def test_the_audit_finds_a_budget_that_drifted_from_its_reservations(stores: Stores, database: Database) -> None:
    tenant = new_id("ten_")
    await stores.reservations.reserve(a_reservation(tenant, a_price(), 300, lease=EXPIRED_LEASE))
    async with database.tenant(tenant) as connection:
        await connection.execute("UPDATE budgets SET held = held + 11")
    assert (await stores.ledger.audit()).drift == 11
    async with database.tenant(tenant) as connection:
        await connection.execute("UPDATE budgets SET held = held - 11")
    assert (await stores.ledger.audit()).drift == 0


async def test_an_imbalance_is_found_by_every_audit_until_it_is_repaired(
    stores: Stores, section: PostgresSection, tenant: str
) -> None:
    assert (await stores.ledger.audit()).imbalance == 0
    name = section.dsn.get_secret_value().rpartition("/")[2]
    # Only a superuser gets past the constraints.
    breaker = await asyncpg.connect(
        with_database(superuser_dsn(), name), server_settings={"session_replication_role": "replica"}
    )
    await breaker.execute(
        "INSERT INTO metering.ledger_entries (tenant_id, transaction_id, line, account, amount)"
        " VALUES ($1, 'txn_broken', 1, 'suspense', 5)",
        tenant,
    )
    assert [(await stores.ledger.audit()).imbalance for _ in range(3)] == [5, 5, 5]
    await breaker.execute("DELETE FROM metering.ledger_entries WHERE transaction_id = 'txn_broken'")
    await breaker.close()
    assert (await stores.ledger.audit()).imbalance == 0


@pytest.mark.parametrize(
    "call",
    [
        "reserve('{t}', '{r}', '{7}', '{PT1H}', ARRAY['[]'::jsonb], '{p}', '{k}', '{u}', 100)",
        "lock_requests('{t}', '{r}', 100)",
        "lock_requests('{t}', '{r}', 100, true)",
    ],
)
async def test_the_session_of_a_client_that_hangs_with_a_budget_locked_ends_soon(database: Database, call: str) -> None:
    async with database.system() as connection:
        await connection.execute(f"SELECT metering.{call}")
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") == "5s"
    async with database.system() as connection:
        assert await connection.fetchval("SHOW idle_in_transaction_session_timeout") != "5s"


async def test_the_price_book_keeps_who_and_why(stores: Stores) -> None:
    key = new_id("local/")
    first = await stores.price_book.add(key, NanoUsd(1), NanoUsd(1))
    second = await stores.price_book.add(key, NanoUsd(2), NanoUsd(2), PriceEdit("usr_1", "dearer"))

    found = await stores.price_book.versions(key, 10, "")

    assert [(one.row, one.edit) for one in found] == [(second, PriceEdit("usr_1", "dearer")), (first, PriceEdit())]
    assert [one.row for one in await stores.price_book.versions(key, 10, second.price.version)] == [first]
    assert await stores.price_book.versions(key, 10, "prc_unknown") == []
