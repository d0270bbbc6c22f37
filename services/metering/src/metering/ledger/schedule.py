"""What the passing of time asks: leases run out, and the books are looked over. Every replica may do both."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from chassis.errors import ArgosyError
from chassis.telemetry import logger

from metering.domain.books import Ledger
from metering.metrics import DRIFT, EXPIRED, EXPOSED, HELD, IMBALANCE, SPENT

log = logger("metering.timers")

Body = Callable[[asyncio.Event], Awaitable[None]]


def every(period: timedelta, act: Callable[[], Awaitable[None]], name: str) -> Body:
    """Make a loop body that acts once per period until it is stopped. What does not answer is asked again next time."""

    async def body(stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                await act()
            except ArgosyError as error:
                log.warning("timer_failed", timer=name, reason=error.reason, message=error.message)
            try:
                async with asyncio.timeout(period.total_seconds()):
                    await stop.wait()
            except TimeoutError:
                continue

    return body


class Sweeper:
    """Gives holds back whose lease ran out, `batch` per transaction, until there are none left."""

    def __init__(self, ledger: Ledger, batch: int) -> None:
        self._ledger = ledger
        self._batch = batch

    async def sweep(self) -> None:
        """Expire all that is overdue."""
        while postings := await self._ledger.expire(self._batch):
            EXPIRED.inc(len(postings))
            EXPOSED.labels("expiry").inc(sum(posting.reservation.held for posting in postings))
            log.warning("reservations_expired", count=len(postings))
            if len(postings) < self._batch:
                return


class Auditor:
    """Shows what a look over the books finds; a ledger that does not balance is an error line and a gauge."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def audit(self) -> None:
        """Look once."""
        found = await self._ledger.audit()
        IMBALANCE.set(found.imbalance)
        DRIFT.set(found.drift)
        HELD.set(found.held)
        SPENT.set(found.spent)
        if found.imbalance or found.drift:
            log.error("books_do_not_balance", imbalance=found.imbalance, drift=found.drift)
