"""What news of prices promise, fake or over Redis. Subclasses give `replicas`.

The clock stands still, so no TTL is over: what a replica knows, it was told.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from chassis.testing import FakeClock
from metering.domain.money import NanoUsd
from metering.domain.prices import Price, PriceNews, Prices, set_price

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import FakePriceBook

KEY = "local/a"


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of metering: what it knows of the book and how it tells."""

    prices: Prices
    news: PriceNews

    async def price(self) -> Price:
        (price,) = await self.prices.find("ten_a", [KEY])
        return price

    async def set_price(self) -> Price:
        return await set_price(KEY, NanoUsd(7), NanoUsd(7), prices=self.prices, news=self.news)

    async def hears(self, price: Price) -> None:
        """Wait until this is the price here."""
        async with asyncio.timeout(10):
            while await self.price() != price:
                await asyncio.sleep(0.01)


class Replicas(ABC):
    """Replicas over one book, and what is between them."""

    def __init__(self) -> None:
        self._clock = FakeClock()
        self.book = FakePriceBook(self._clock, [a_price(KEY)])

    async def open(self) -> Replica:
        """Start a replica that listens and has read the book."""
        prices = Prices(self.book, self._clock, timedelta(hours=1))
        replica = Replica(prices, await self.news(prices.forget))
        await replica.price()
        return replica

    @abstractmethod
    async def news(self, forget: Callable[[], None]) -> PriceNews:
        """Make what it hears by; return when it listens."""

    @abstractmethod
    async def cut(self) -> None:
        """Let nobody tell or hear anything."""

    @abstractmethod
    async def mend(self) -> None:
        """End that."""


class NewsContract:
    async def test_a_new_price_is_heard_of_by_every_replica(self, replicas: Replicas) -> None:
        teller, *listeners = [await replicas.open() for _ in range(3)]
        newer = await teller.set_price()

        for replica in (teller, *listeners):
            await replica.hears(newer)

    async def test_a_price_that_nobody_was_told_of_is_not_looked_for(self, replicas: Replicas) -> None:
        replica = await replicas.open()
        before, loads = await replica.price(), replicas.book.loads
        await replicas.book.add(KEY, NanoUsd(7), NanoUsd(7))

        assert await replica.price() == before
        assert replicas.book.loads == loads

    async def test_a_price_that_cannot_be_told_is_set_and_heard_of_when_the_replicas_hear_again(
        self, replicas: Replicas
    ) -> None:
        teller, listener = await replicas.open(), await replicas.open()
        before = await listener.price()
        await replicas.cut()
        newer = await teller.set_price()

        assert await teller.price() == newer != before
        assert await listener.price() == before
        await replicas.mend()
        await listener.hears(newer)

    async def test_what_is_told_after_a_silence_is_heard(self, replicas: Replicas) -> None:
        teller, listener = await replicas.open(), await replicas.open()
        await replicas.cut()
        missed = await teller.set_price()
        await replicas.mend()
        await listener.hears(missed)

        await listener.hears(await teller.set_price())
