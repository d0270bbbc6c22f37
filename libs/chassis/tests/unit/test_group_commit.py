"""Grouped commits."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import ArgosyError, InvalidRequest, Unavailable
from chassis.postgres import GroupCommit


class Ledger:
    """Commits when the test lets it."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = asyncio.Event()
        self.go = asyncio.Event()

    async def commit(self, batch: list[int]) -> list[int | ArgosyError]:
        self.batches.append(batch)
        self.begun.set()
        await self.go.wait()
        if -1 in batch:
            raise ZeroDivisionError
        return [InvalidRequest("odd") if item % 2 else item * 10 for item in batch]


async def test_what_waits_during_a_commit_goes_together_in_the_next() -> None:
    ledger = Ledger()
    grouper = GroupCommit(ledger.commit)
    first = asyncio.create_task(grouper.submit(2))
    await ledger.begun.wait()
    rest = [asyncio.create_task(grouper.submit(item)) for item in (4, 6, 8)]
    await asyncio.sleep(0)
    ledger.go.set()

    assert await first == 20
    assert await asyncio.gather(*rest) == [40, 60, 80]
    assert ledger.batches == [[2], [4, 6, 8]]


async def test_after_a_batch_of_several_items_the_next_one_waits_for_the_interval() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit, interval=timedelta(milliseconds=20))

    await asyncio.gather(grouper.submit(2), grouper.submit(4))
    first = asyncio.create_task(grouper.submit(6))
    # More turns than a batch takes that begins at once.
    for _ in range(10):
        await asyncio.sleep(0)
    assert list(await asyncio.gather(first, grouper.submit(8))) == [60, 80]

    assert ledger.batches == [[2, 4], [6, 8]]


async def test_a_single_item_is_committed_at_once() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit, interval=timedelta(days=1))

    assert [await grouper.submit(item) for item in (2, 4, 6)] == [20, 40, 60]


async def test_a_batch_has_a_bound() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit, max_batch=2)

    await asyncio.gather(*(grouper.submit(item) for item in (0, 2, 4, 6, 8)))

    assert ledger.batches == [[0, 2], [4, 6], [8]]


async def test_workers_commit_side_by_side() -> None:
    ledger = Ledger()
    grouper = GroupCommit(ledger.commit, max_batch=1, workers=2)
    tasks = [asyncio.create_task(grouper.submit(item)) for item in (2, 4, 6)]
    for _ in range(5):
        await asyncio.sleep(0)

    assert ledger.batches == [[2], [4]]
    ledger.go.set()
    assert await asyncio.gather(*tasks) == [20, 40, 60]


async def test_a_refused_item_does_not_affect_others() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit)

    answers = await asyncio.gather(*(grouper.submit(item) for item in (1, 2)), return_exceptions=True)

    assert isinstance(answers[0], InvalidRequest)
    assert answers[1] == 20


async def test_a_failed_commit_fails_its_batch_and_no_other() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit, max_batch=2)

    answers = await asyncio.gather(*(grouper.submit(item) for item in (-1, 2, 4)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ZeroDivisionError, ZeroDivisionError, int]
    assert await grouper.submit(6) == 60


async def test_a_full_queue_refuses_at_once() -> None:
    ledger = Ledger()
    grouper = GroupCommit(ledger.commit, max_waiting=1)
    committing = asyncio.create_task(grouper.submit(2))
    await ledger.begun.wait()
    waiting = asyncio.create_task(grouper.submit(4))
    await asyncio.sleep(0)

    with pytest.raises(Unavailable):
        await grouper.submit(6)

    ledger.go.set()
    assert [await committing, await waiting] == [20, 40]


async def test_the_item_of_a_cancelled_waiter_is_dropped_before_its_batch() -> None:
    ledger = Ledger()
    grouper = GroupCommit(ledger.commit)
    first = asyncio.create_task(grouper.submit(2))
    await ledger.begun.wait()
    leaving, staying = asyncio.create_task(grouper.submit(4)), asyncio.create_task(grouper.submit(6))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    ledger.go.set()

    assert [await first, await staying] == [20, 60]
    assert ledger.batches == [[2], [6]]


async def test_a_waiter_cancelled_during_its_commit_does_not_affect_others() -> None:
    ledger = Ledger()
    grouper = GroupCommit(ledger.commit)
    leaving, staying = asyncio.create_task(grouper.submit(2)), asyncio.create_task(grouper.submit(4))
    await ledger.begun.wait()
    leaving.cancel()
    await asyncio.sleep(0)
    ledger.go.set()

    assert await staying == 40
    assert ledger.batches == [[2, 4]]


async def test_an_item_that_arrives_as_the_worker_ends_is_committed() -> None:
    ledger = Ledger()
    ledger.go.set()
    grouper = GroupCommit(ledger.commit)

    for item in range(0, 100, 2):
        assert await grouper.submit(item) == item * 10


async def test_a_commit_with_too_few_results_fails_its_batch() -> None:
    async def forgetful(batch: list[int]) -> list[int | ArgosyError]:
        return []

    with pytest.raises(RuntimeError, match="1 items got 0 results"):
        await GroupCommit(forgetful).submit(1)
