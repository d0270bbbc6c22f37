"""The fair queue and its consumers."""

from __future__ import annotations

import asyncio

import pytest
from retrieval.ingestion.fair_queue import FairQueue, WorkKey, consume
from retrieval.vector_stores.model import AttachmentKey


def a_key(tenant: str, file: int) -> AttachmentKey:
    return AttachmentKey(f"ten_{tenant}", "vs_1", f"file-{file}")


async def take_all(queue: FairQueue) -> list[WorkKey]:
    return [await queue.get() for _ in range(len(queue))]


async def test_tenants_take_turns() -> None:
    queue = FairQueue()
    for n in range(100):
        queue.put(a_key("large", n))
    queue.put(a_key("small", 1))

    first_three = (await take_all(queue))[:3]

    assert first_three == [a_key("large", 0), a_key("small", 1), a_key("large", 1)]


async def test_a_queued_key_is_not_queued_twice() -> None:
    queue = FairQueue()
    assert [queue.put(a_key("a", 1)) for _ in range(3)] == [True, True, True]

    assert await take_all(queue) == [a_key("a", 1)]
    assert queue.put(a_key("a", 1))
    assert len(queue) == 1


async def test_a_full_queue_rejects_keys() -> None:
    queue = FairQueue(max_size=2)

    assert [queue.put(a_key("a", n)) for n in range(3)] == [True, True, False]


async def test_consumers_share_the_queue_and_stop() -> None:
    queue, stop, done = FairQueue(), asyncio.Event(), asyncio.Event()
    seen: list[AttachmentKey] = []

    async def run(key: AttachmentKey) -> None:
        seen.append(key)
        if len(seen) == 5:
            done.set()

    workers = [asyncio.create_task(consume(stop, queue, run)) for _ in range(2)]
    for n in range(5):
        queue.put(a_key("a", n))
        await asyncio.sleep(0)
    await done.wait()
    stop.set()
    await asyncio.gather(*workers)

    assert sorted(key.file_id for key in seen) == [f"file-{n}" for n in range(5)]


async def test_stopping_cancels_the_current_run() -> None:
    queue, stop, begun = FairQueue(), asyncio.Event(), asyncio.Event()
    cut: list[bool] = []

    async def run(key: AttachmentKey) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cut.append(True)
            raise

    queue.put(a_key("a", 1))
    worker = asyncio.create_task(consume(stop, queue, run))
    await begun.wait()
    stop.set()
    await worker

    assert cut == [True]


async def test_an_unexpected_exception_ends_the_consumer() -> None:
    queue = FairQueue()
    queue.put(a_key("a", 1))

    async def run(key: AttachmentKey) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume(asyncio.Event(), queue, run)
