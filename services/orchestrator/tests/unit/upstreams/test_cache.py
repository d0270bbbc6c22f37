"""Workers wait for what is newer, and never get what is older."""

from __future__ import annotations

import asyncio

from orchestrator.upstreams.cache import UpstreamCache

from services.orchestrator.tests.fake_upstreams import FakeUpstreamStore
from services.orchestrator.tests.upstream_store_contract import put, upstream

LONG = 30.0


async def test_a_worker_that_knows_nothing_gets_what_there_is() -> None:
    store = FakeUpstreamStore()
    cache = UpstreamCache(store)
    await cache.refresh()

    snapshot = await cache.wait_newer(None, LONG)

    assert snapshot is not None
    assert (snapshot.version, snapshot.upstreams) == (0, ())


async def test_who_waits_gets_the_next_change() -> None:
    store = FakeUpstreamStore()
    cache = UpstreamCache(store)
    await cache.refresh()
    waiting = [asyncio.create_task(cache.wait_newer(0, LONG)) for _ in range(3)]
    await asyncio.sleep(0)

    await put(store, upstream())
    assert await cache.refresh()

    snapshots = await asyncio.gather(*waiting)
    assert [snapshot and snapshot.version for snapshot in snapshots] == [1, 1, 1]
    assert cache.names() == {"openai"}


async def test_a_replica_that_is_behind_returns_nothing_older() -> None:
    store = FakeUpstreamStore()
    cache = UpstreamCache(store)
    await put(store, upstream())
    await cache.refresh()

    assert await cache.wait_newer(5, 0.01) is None


async def test_without_a_first_read_a_worker_waits() -> None:
    assert await UpstreamCache(FakeUpstreamStore()).wait_newer(None, 0.01) is None


async def test_a_stop_ends_all_waits() -> None:
    cache = UpstreamCache(FakeUpstreamStore())
    await cache.refresh()
    waiting = asyncio.create_task(cache.wait_newer(0, LONG))
    await asyncio.sleep(0)

    cache.stop()

    assert await waiting is None
    assert await cache.wait_newer(None, LONG) is None
