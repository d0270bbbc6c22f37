"""The version before settles on the schema of this one: during an update both run."""

from __future__ import annotations

from typing import Any

import orjson
from chassis.ids import new_id
from chassis.postgres import Database
from metering.usage.model import BEGINNING, END

from services.metering.tests.examples import a_price, a_reservation, an_event, as_easy, reported
from services.metering.tests.fakes import Stores

FINISH_BEFORE = "SELECT metering.finish_settlement($1, $2, $3, $4, $5, $6, $7)"
"""Of the version that knew nothing of right-sizing."""


async def test_the_version_before_finishes_settlements_beside_this_one(database: Database, stores: Stores) -> None:
    tenant, price = new_id("ten_"), a_price()
    priced = a_reservation(tenant, price, 300)
    await stores.reservations.reserve(priced)
    (change,) = await stores.settlements.settle([as_easy(an_event(priced, reported(100)), a_price("far/dear", 3))])
    day = change.settlements[0].settled_at.date().isoformat()
    usage: dict[str, Any] = {"tenant_id": tenant, "day": day, "price_key": price.price.key}
    usage |= {"calls": 1, "input_tokens": 3, "output_tokens": 4, "cost": 5, "cache_hits": 0, "saved": 0}
    async with database.system() as connection:
        await connection.execute(FINISH_BEFORE, "[]", [], [], [], [], orjson.dumps([usage]).decode(), "[]")

    (row,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
    assert (row.calls, row.cost, row.right_sizing_saved) == (2, 105, 200)
