"""Items that wait for a transaction share the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from retrieval.ingestion.claim import LEASE
from retrieval.ingestion.grouped_postgres import MAX_FILES, Grouped, GroupedIngestionStore
from retrieval.vector_stores.model import AttachmentKey

from services.retrieval.tests.ingestion_world import PAGES, IngestionWorld


class Transactions:
    """Commits items; `bad` ones fail the transaction that has them."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.committed: list[tuple[str, list[int]]] = []
        self.attempts = 0
        self.go_on = asyncio.Event()

    async def __call__(self, key: str, items: Sequence[int]) -> list[int | BaseException]:
        self.attempts += 1
        await self.go_on.wait()
        if any(item in self.bad for item in items):
            raise ValueError(f"{items} cannot be stored")
        self.committed.append((key, list(items)))
        return [LookupError(str(item)) if item < 0 else item * 10 for item in items]


async def submit(transactions: Transactions, *items: tuple[str, int]) -> list[int | BaseException]:
    grouped: Grouped[str, int, int] = Grouped(transactions)
    tasks = [asyncio.create_task(grouped.submit(key, item)) for key, item in items]
    while not transactions.attempts:
        await asyncio.sleep(0)
    transactions.go_on.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert not grouped._groups, "nothing is kept of tenants that wait for nothing"
    return outcomes


async def test_what_waits_shares_a_transaction_with_its_own_key_only() -> None:
    transactions = Transactions()

    outcomes = await submit(transactions, *[("a", n) for n in range(1, 5)], ("b", 7))

    assert outcomes == [10, 20, 30, 40, 70]
    assert ("b", [7]) in transactions.committed
    assert sum(len(items) for key, items in transactions.committed if key == "a") == 4
    assert len(transactions.committed) <= 3


async def test_one_item_that_fails_the_transaction_fails_no_other() -> None:
    transactions = Transactions(3)

    outcomes = await submit(transactions, *[("a", n) for n in range(1, 6)])

    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [10, 20, 40, 50]
    assert isinstance(outcomes[2], ValueError)


async def test_an_item_that_is_refused_alone_does_not_repeat_the_others() -> None:
    transactions = Transactions()

    outcomes = await submit(transactions, ("a", 1), ("a", -2), ("a", 3))

    assert (outcomes[0], outcomes[2]) == (10, 30)
    assert isinstance(outcomes[1], LookupError)
    assert sorted(item for _, items in transactions.committed for item in items) == [-2, 1, 3]


async def test_a_transaction_has_a_bound() -> None:
    transactions = Transactions()

    await submit(transactions, *[("a", n) for n in range(3 * MAX_FILES)])

    assert max(len(items) for _, items in transactions.committed) <= MAX_FILES


async def test_an_item_that_is_given_up_before_its_transaction_is_not_stored() -> None:
    transactions = Transactions()
    grouped: Grouped[str, int, int] = Grouped(transactions)
    first, second = (asyncio.create_task(grouped.submit("a", n)) for n in (1, 2))
    while not transactions.attempts:
        await asyncio.sleep(0)
    third = asyncio.create_task(grouped.submit("a", 3))
    await asyncio.sleep(0)
    third.cancel()
    transactions.go_on.set()

    assert list(await asyncio.gather(first, second)) == [10, 20]
    with pytest.raises(asyncio.CancelledError):
        await third
    assert all(3 not in items for _, items in transactions.committed)


async def test_a_claim_whose_run_is_cancelled_meanwhile_is_released() -> None:
    world, begun, go_on = IngestionWorld(), asyncio.Event(), asyncio.Event()

    class Store(GroupedIngestionStore):
        """Its statements are those of the store in memory."""

        async def claim_files(self, tenant_id: str, keys: Any, lease: Any) -> Any:
            begun.set()
            await go_on.wait()
            return {key: claim for key in keys if (claim := await world.store.claim(key, lease))}

        async def release(self, claim: Any, delay: Any, *, failed: bool) -> None:
            await world.store.release(claim, delay, failed=failed)

    key: AttachmentKey = await world.attach(PAGES[0])
    claiming = asyncio.create_task(Store(None).claim(key, LEASE))
    await begun.wait()

    claiming.cancel()
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.gather(claiming, return_exceptions=True)

    assert claiming.cancelled()
    assert world.row(key).crashes == 0
    summary = await world.ingestion().run(key)
    assert summary is not None, "the claim is free before its lease has ended"
