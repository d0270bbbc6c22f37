"""Contract of price changes, fake or over Redis. Subclasses give `replicas`.

The clock stands still, so no TTL ends: a replica sees a new price only if it received the change.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from chassis.testing import FakeClock
from metering.prices.model import PriceCache, PriceRow
from metering.prices.set_price import PriceChangePublisher, set_price
from values.money import NanoUsd

from services.metering.tests.examples import a_price
from services.metering.tests.fakes import FakePriceBook

KEY = "local/a"


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of metering: its cached prices and its publisher."""

    prices: PriceCache
    publisher: PriceChangePublisher

    async def price(self) -> PriceRow:
        (price,) = await self.prices.find("ten_a", [KEY])
        return price

    async def set_price(self) -> PriceRow:
        return await set_price(KEY, NanoUsd(7), NanoUsd(7), prices=self.prices, publisher=self.publisher)

    async def wait_for(self, price: PriceRow) -> None:
        """Wait until this replica sees this price."""
        async with asyncio.timeout(30):
            while await self.price() != price:
                await asyncio.sleep(0.01)


class Replicas(ABC):
    """Replicas over one price book, and the channel between them."""

    def __init__(self) -> None:
        self._clock = FakeClock()
        self.book = FakePriceBook(self._clock, [a_price(KEY)])

    async def start(self) -> Replica:
        """Start a replica that has subscribed and has read the book."""
        prices = PriceCache(self.book, self._clock, timedelta(hours=1))
        replica = Replica(prices, await self.subscribe(prices.invalidate))
        await replica.price()
        return replica

    @abstractmethod
    async def subscribe(self, invalidate: Callable[[], None]) -> PriceChangePublisher:
        """Make a publisher; return when its subscription is active."""

    @abstractmethod
    async def disconnect(self) -> None:
        """Take the channel down for all replicas."""

    @abstractmethod
    async def reconnect(self) -> None:
        """Bring the channel up again."""


class PriceChangesContract:
    async def test_every_replica_sees_a_new_price(self, replicas: Replicas) -> None:
        publisher, *others = [await replicas.start() for _ in range(3)]
        newer = await publisher.set_price()

        for replica in (publisher, *others):
            await replica.wait_for(newer)

    async def test_without_a_message_the_book_is_not_read_again(self, replicas: Replicas) -> None:
        replica = await replicas.start()
        before, loads = await replica.price(), replicas.book.loads
        await replicas.book.add(KEY, NanoUsd(7), NanoUsd(7))

        assert await replica.price() == before
        assert replicas.book.loads == loads

    async def test_a_price_set_while_the_channel_is_down_is_seen_after_the_reconnection(
        self, replicas: Replicas
    ) -> None:
        publisher, other = await replicas.start(), await replicas.start()
        before = await other.price()
        await replicas.disconnect()
        newer = await publisher.set_price()

        assert await publisher.price() == newer != before
        assert await other.price() == before
        await replicas.reconnect()
        await other.wait_for(newer)

    async def test_messages_arrive_again_after_a_reconnection(self, replicas: Replicas) -> None:
        publisher, other = await replicas.start(), await replicas.start()
        await replicas.disconnect()
        missed = await publisher.set_price()
        await replicas.reconnect()
        await other.wait_for(missed)

        await other.wait_for(await publisher.set_price())
