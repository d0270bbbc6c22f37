"""Hits that are delivered again: recognized by one statement, whatever their number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from chassis.ids import new_id
from metering.prices.model import discounted
from metering.settlement.hits import MAX_SETTLED_AT_ONCE, Hit, Hits
from metering.settlement.model import SettlementCase, SettlementChanges, UsageEvent
from metering.usage.model import BEGINNING, END
from values.money import NanoUsd

from services.metering.tests.examples import a_reservation, an_event, as_cached, reported
from services.metering.tests.fakes import Stores

COUNT = 2 * MAX_SETTLED_AT_ONCE + 1


@pytest.fixture
def settled_alone(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the transactions that settled requests by themselves."""
    sizes: list[int] = []
    settle = stores.settlements.settle

    async def recorded(events: Sequence[UsageEvent]) -> Sequence[SettlementChanges]:
        sizes.append(len(events))
        return await settle(events)

    monkeypatch.setattr(stores.settlements, "settle", recorded)
    return sizes


@pytest.mark.parametrize("percent_off", [100, 50])
async def test_hits_that_are_delivered_again_are_not_settled_one_by_one(
    stores: Stores, settled_alone: list[int], percent_off: int
) -> None:
    tenant = new_id("ten_")
    price = await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))
    answer = as_cached(an_event(a_reservation(tenant, discounted(price, percent_off), 10), reported(10)), price)
    hits = Hits([answer], [Hit(f"req_{number}", "prj_1", "key_1", 0) for number in range(COUNT)])
    await stores.settlements.settle_hits(hits)
    before = await stores.settlements.statement(tenant, "req_7"), await stores.budgets.read(tenant)
    settled_alone.clear()

    changes = await stores.settlements.settle_hits(hits)

    assert [change.case for change in changes] == [SettlementCase.REPEATED] * COUNT
    assert not any(change.settlements or change.transactions or change.spent or change.held for change in changes)
    assert settled_alone == []
    assert (await stores.settlements.statement(tenant, "req_7"), await stores.budgets.read(tenant)) == before
    (usage,) = await stores.usage.sums(tenant, BEGINNING, END, by_day=False)
    assert usage.cache_hits == COUNT


async def test_requests_that_are_on_record_for_another_reason_are_settled_a_bounded_number_at_a_time(
    stores: Stores, settled_alone: list[int]
) -> None:
    tenant = new_id("ten_")
    price = await stores.price_book.add(f"local/{new_id('m')}", NanoUsd(1_000_000), NanoUsd(2_000_000))
    dear = as_cached(an_event(a_reservation(tenant, discounted(price, 50), 10), reported(10)), price)
    hits = Hits([dear], [Hit(f"req_{number}", "prj_1", "key_1", 0) for number in range(COUNT)])

    changes = await stores.settlements.settle_hits(hits)

    assert len(changes) == COUNT
    assert sum(change.spent for change in changes) == (await stores.budgets.read(tenant)).spent == 5 * COUNT
    assert max(settled_alone, default=0) <= MAX_SETTLED_AT_ONCE
