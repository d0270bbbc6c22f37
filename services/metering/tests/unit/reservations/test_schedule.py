import asyncio
from collections.abc import Sequence
from datetime import timedelta

from chassis.errors import Unavailable
from chassis.testing import FakeClock
from metering.api.timers import Auditor, Sweeper, every
from metering.domain.books import Audit
from metering.domain.money import NOTHING, NanoUsd
from metering.domain.settlement import Posting
from metering.metrics import DRIFT, EXPIRED, HELD, IMBALANCE, SPENT

from services.metering.tests.examples import OVER, a_hold, a_price
from services.metering.tests.fakes import FakeBooks


class CountingBooks(FakeBooks):
    """Remembers how much each sweep asked for and got."""

    swept: Sequence[int] = ()

    async def expire(self, most: int) -> Sequence[Posting]:
        found = await super().expire(most)
        self.swept = [*self.swept, len(found)]
        return found


class BrokenBooks(FakeBooks):
    """Books that do not balance."""

    async def audit(self) -> Audit:
        return Audit(NanoUsd(3), NanoUsd(4), NanoUsd(5), NanoUsd(6))


async def test_a_sweep_goes_on_batch_by_batch_until_nothing_is_overdue() -> None:
    books, price, before = CountingBooks(FakeClock()), a_price(), EXPIRED._value.get()
    for lease in [OVER] * 5 + [timedelta(hours=1)]:
        await books.hold(a_hold("ten_a", price, 10, lease=lease))

    await Sweeper(books, batch=2).sweep()

    assert books.swept == [2, 2, 1]
    assert EXPIRED._value.get() == before + 5
    assert (await books.read("ten_a")).held == 10


async def test_an_audit_shows_what_it_found() -> None:
    await Auditor(BrokenBooks(FakeClock())).audit()
    assert [gauge._value.get() for gauge in (IMBALANCE, DRIFT, HELD, SPENT)] == [3, 4, 5, 6]
    await Auditor(FakeBooks(FakeClock())).audit()
    assert [gauge._value.get() for gauge in (IMBALANCE, DRIFT, HELD, SPENT)] == [NOTHING] * 4


async def test_a_timer_acts_again_after_a_failure_and_stops_when_asked() -> None:
    stop = asyncio.Event()
    acts: list[int] = []

    async def act() -> None:
        acts.append(len(acts))
        if len(acts) == 1:
            raise Unavailable("the database does not answer")
        stop.set()

    async with asyncio.timeout(5):
        await every(timedelta(milliseconds=1), act, "test")(stop)
    assert acts == [0, 1]
