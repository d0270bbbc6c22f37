import asyncio
from collections.abc import Sequence
from datetime import timedelta

from chassis.aio import periodic
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from metering.reservations.model import Reservation
from metering.reservations.schedule import Sweeper

from services.metering.tests.examples import EXPIRED_LEASE, a_price, a_reservation, metric
from services.metering.tests.fakes import FakeStores


class CountingStores(FakeStores):
    """Records how many reservations each call expired."""

    expired: Sequence[int] = ()

    async def expire(self, limit: int) -> Sequence[Reservation]:
        reservations = await super().expire(limit)
        self.expired = [*self.expired, len(reservations)]
        return reservations


async def test_the_sweeper_asks_for_another_run_until_nothing_is_overdue() -> None:
    stores, price, before = CountingStores(FakeClock()), a_price(), metric("expired_reservations_total")
    for lease in [EXPIRED_LEASE] * 5 + [timedelta(hours=1)]:
        await stores.reserve(a_reservation("ten_a", price, 10, lease=lease))

    sweeper = Sweeper(stores, max_batch=2)
    assert [await sweeper.run_once() for _ in range(3)] == [True, True, False]

    assert stores.expired == [2, 2, 1]
    assert metric("expired_reservations_total") == before + 5
    assert (await stores.read("ten_a")).held == 10


async def test_the_sweeper_runs_again_after_a_failure_and_stops_when_asked() -> None:
    stop = asyncio.Event()

    class FailingStores(FakeStores):
        calls = 0

        async def expire(self, limit: int) -> Sequence[Reservation]:
            self.calls += 1
            if self.calls == 1:
                raise Unavailable("the database does not answer")
            stop.set()
            return []

    stores = FailingStores(FakeClock())
    async with asyncio.timeout(5):
        await periodic(timedelta(milliseconds=1), Sweeper(stores, max_batch=2).run_once, "sweeper")(stop)
    assert stores.calls == 2
