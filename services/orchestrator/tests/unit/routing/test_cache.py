"""Routes in memory."""

import asyncio
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from orchestrator.adapters.routes import CachedRoutes
from orchestrator.domain.errors import ModelNotFound
from orchestrator.domain.routes import RouteCandidate, Task

from services.orchestrator.tests.fakes import SEEDED, FakeRouteBook

OWN = [RouteCandidate("cloud", "bigger", 4096)]


def cached(book: FakeRouteBook, refresh: timedelta = timedelta(seconds=5)) -> CachedRoutes:
    return CachedRoutes(book, refresh, FakeClock())


async def test_before_they_were_read_nothing_can_be_said():
    with pytest.raises(Unavailable):
        cached(FakeRouteBook()).table()


async def test_only_a_new_version_is_read_again():
    book = FakeRouteBook()
    routes = cached(book)

    await routes.refresh()
    first = routes.table()
    await routes.refresh()

    assert routes.table() is first
    assert book.asked == [None, SEEDED.version]


async def test_a_change_is_seen_at_the_next_look():
    book = FakeRouteBook()
    routes = cached(book)
    await routes.refresh()

    book.change("ten_1", "smollm2", OWN)
    await routes.refresh()

    assert routes.table().resolve("ten_1", "smollm2", Task.CHAT).candidates == tuple(OWN)


async def test_what_was_known_stays_in_force_while_the_book_cannot_be_read():
    book = FakeRouteBook()
    routes, stop = cached(book, timedelta(milliseconds=1)), asyncio.Event()
    await routes.refresh()
    book.failure = Unavailable("postgres does not answer")

    looking = asyncio.ensure_future(routes.keep_fresh(stop))
    while len(book.asked) < 3:
        await asyncio.sleep(0)
    table = routes.table()
    book.failure = None
    book.change("ten_1", "smollm2", OWN)
    while routes.table() is table:
        await asyncio.sleep(0)
    stop.set()
    await looking

    assert table.resolve("ten_1", "smollm2", Task.CHAT).candidates != tuple(OWN)
    assert routes.table().resolve("ten_1", "smollm2", Task.CHAT).candidates == tuple(OWN)


async def test_the_end_is_not_kept_waiting_for_the_next_look():
    routes, stop = cached(FakeRouteBook(), timedelta(hours=1)), asyncio.Event()
    looking = asyncio.ensure_future(routes.keep_fresh(stop))

    stop.set()

    async with asyncio.timeout(5):
        await looking


async def test_their_age_is_the_time_since_they_were_seen_in_force():
    clock = FakeClock()
    routes = CachedRoutes(FakeRouteBook(), timedelta(seconds=5), clock)
    await routes.refresh()

    clock.advance(timedelta(seconds=9))

    assert routes.age_seconds == 9


def test_an_unknown_model_is_not_found():
    with pytest.raises(ModelNotFound):
        SEEDED.resolve("ten_1", "gpt-17", Task.CHAT)
