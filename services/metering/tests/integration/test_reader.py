"""The role of `ops/reader.sql`, and every query that the dashboard of tenants makes with it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import orjson
import pytest
from chassis.ids import new_id
from chassis.postgres.provision import with_database, with_user
from chassis.settings import PostgresSection
from chassis.testing.postgres import superuser_dsn

from services.metering.tests.examples import UNKNOWN, a_price, a_reservation, an_event, reported
from services.metering.tests.fakes import Stores

OPS = Path(__file__).parents[4] / "ops"
DASHBOARD = orjson.loads((OPS / "dashboards/tenant.json").read_bytes())
QUERIES = {
    panel["title"]: target["rawSql"]
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
    if "rawSql" in target
}
PASSWORD = "not-a-secret"


@pytest.fixture
async def tenant(stores: Stores) -> str:
    """A tenant with usage, and with a call that nobody paid."""
    tenant, price = new_id("ten_"), a_price()
    priced = a_reservation(tenant, price, 300)
    await stores.reservations.reserve(priced)
    await stores.settlements.settle([an_event(priced, reported(100), UNKNOWN)])
    return tenant


@pytest.fixture
async def reader(section: PostgresSection) -> AsyncIterator[Any]:
    """A connection of the role that the file makes, under a name of its own: roles are of the whole cluster."""
    role = new_id("argosy_reader_")
    script = (OPS / "reader.sql").read_text().replace("argosy_reader", role).replace(":'password'", f"'{PASSWORD}'")
    dsn = with_database(superuser_dsn(), urlsplit(section.dsn.get_secret_value()).path.lstrip("/"))
    superuser = await asyncpg.connect(dsn)
    try:
        await superuser.execute(script)
        connection = await asyncpg.connect(with_user(dsn, role, PASSWORD))
        yield connection
        await connection.close()
    finally:
        await superuser.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
        await superuser.close()


def as_grafana_sends_it(query: str, tenants: list[str]) -> str:
    """Put values in the place of macros and variables."""
    names = ", ".join(f"'{tenant}'" for tenant in tenants)
    query = query.replace("${tenant:sqlstring}", names)
    query = query.replace("$__timeFrom()", "(now() - interval '2 days')")
    query = query.replace("$__timeTo()", "(now() + interval '1 day')")
    assert re.search(r"\$\w|\$\{", query) is None
    return query


@pytest.mark.parametrize("title", QUERIES)
async def test_a_panel_shows_the_tenants_that_are_chosen(reader: Any, tenant: str, title: str) -> None:
    chosen = await reader.fetch(as_grafana_sends_it(QUERIES[title], [tenant]))
    assert len(chosen) == 1
    assert tenant in chosen[0].values() or "price_key" in chosen[0]
    assert await reader.fetch(as_grafana_sends_it(QUERIES[title], [new_id("ten_")])) == []


async def test_the_variable_lists_all_tenants(reader: Any, tenant: str) -> None:
    (variable,) = (entry for entry in DASHBOARD["templating"]["list"] if entry["name"] == "tenant")
    assert tenant in {row["tenant_id"] for row in await reader.fetch(variable["query"])}


async def test_cost_is_in_dollars_and_agrees_with_the_roll_up(reader: Any, stores: Stores, tenant: str) -> None:
    (row,) = await reader.fetch(as_grafana_sends_it(QUERIES["Tenants by cost"], [tenant]))
    cost = await reader.fetchval("SELECT sum(cost) FROM metering.usage_daily WHERE tenant_id = $1", tenant)
    assert cost > 0
    assert row["cost_usd"] == float(cost) / 1e9


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE metering.budgets SET cap = 0",
        "DELETE FROM metering.usage_daily",
        "SET default_transaction_read_only = off; UPDATE metering.budgets SET cap = 0",
        "SELECT * FROM metering.reservations",
        "SELECT * FROM metering.ledger_entries",
    ],
)
async def test_the_role_reads_three_tables_and_writes_none(reader: Any, statement: str) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.ReadOnlySQLTransactionError)):
        await reader.execute(statement)
