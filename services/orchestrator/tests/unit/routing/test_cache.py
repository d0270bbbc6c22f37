"""Routes in memory, and their periodic refresh."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from orchestrator.routing.choose import RouteCache
from orchestrator.routing.model import ModelNotFound, RouteCandidate, RouteEntry, Task
from orchestrator.routing.schedule import refresh_routes

from services.orchestrator.tests.fakes import DEMO_ROUTES, FakeRouteStore

OWN = RouteEntry("ten_1", "smollm2", Task.CHAT, (RouteCandidate("cloud", "bigger", 4096),))


def cache_of(store: FakeRouteStore) -> RouteCache:
    return RouteCache(store, FakeClock())


async def test_before_the_first_refresh_the_routes_are_unavailable() -> None:
    with pytest.raises(Unavailable):
        cache_of(FakeRouteStore()).table()


async def test_only_a_new_version_is_read_again() -> None:
    store = FakeRouteStore()
    routes = cache_of(store)

    await routes.refresh()
    first = routes.table()
    await routes.refresh()

    assert routes.table() is first
    assert store.known_versions == [None, DEMO_ROUTES.version]


async def test_a_change_is_in_force_after_the_next_refresh() -> None:
    store = FakeRouteStore()
    routes = cache_of(store)
    await routes.refresh()

    await store.put(OWN)
    await routes.refresh()

    assert routes.table().resolve("ten_1", "smollm2", Task.CHAT).candidates == OWN.candidates


async def test_known_routes_stay_in_force_while_the_store_is_unavailable() -> None:
    store = FakeRouteStore()
    routes, stop = cache_of(store), asyncio.Event()
    await routes.refresh()
    store.failure = Unavailable("postgres does not answer")

    refreshing = asyncio.ensure_future(refresh_routes(routes, timedelta(milliseconds=1))(stop))
    while len(store.known_versions) < 3:
        await asyncio.sleep(0)
    table = routes.table()
    store.failure = None
    await store.put(OWN)
    while routes.table() is table:
        await asyncio.sleep(0)
    stop.set()
    await refreshing

    assert table.resolve("ten_1", "smollm2", Task.CHAT).candidates != OWN.candidates
    assert routes.table().resolve("ten_1", "smollm2", Task.CHAT).candidates == OWN.candidates


async def test_a_stop_does_not_wait_for_the_next_refresh() -> None:
    stop = asyncio.Event()
    refreshing = asyncio.ensure_future(refresh_routes(cache_of(FakeRouteStore()), timedelta(hours=1))(stop))

    stop.set()

    async with asyncio.timeout(30):
        await refreshing


async def test_the_age_is_the_time_since_the_last_refresh() -> None:
    clock = FakeClock()
    routes = RouteCache(FakeRouteStore(), clock)
    await routes.refresh()

    clock.advance(timedelta(seconds=9))

    assert routes.age_seconds == 9


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ModelNotFound):
        DEMO_ROUTES.resolve("ten_1", "gpt-17", Task.CHAT)
