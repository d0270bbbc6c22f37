"""Price changes over a real Redis, behind a proxy that can be disconnected."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from chassis.ids import new_id
from chassis.redis import Redis, pooled
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from metering.prices import redis as price_changes
from metering.prices.redis import RedisPriceChanges
from metering.prices.set_price import PriceChangePublisher

from services.metering.tests.price_changes_contract import PriceChangesContract, Replicas


class RedisReplicas(Replicas):
    def __init__(self, proxy: TcpProxy, stack: AsyncExitStack) -> None:
        super().__init__()
        self._stack = stack
        self._address = urlsplit(os.environ["ARGOSY_REDIS_URL"])
        self._proxy = proxy

    async def disconnect(self) -> None:
        await self._proxy.cut()

    async def reconnect(self) -> None:
        await self._proxy.mend()

    async def subscribe(self, invalidate: Callable[[], None]) -> PriceChangePublisher:
        subscribed = asyncio.Event()

        def note_and_invalidate() -> None:
            invalidate()
            subscribed.set()

        credentials, at, _ = self._address.netloc.rpartition("@")
        url = self._address._replace(netloc=f"{credentials}{at}127.0.0.1:{self._proxy.port}").geturl()
        redis = await self._stack.enter_async_context(Redis(RedisSection(url=url)))
        changes = RedisPriceChanges(redis, note_and_invalidate)
        subscription = changes.subscription()
        await subscription.start()
        self._stack.push_async_callback(subscription.stop)
        async with asyncio.timeout(30):
            await subscribed.wait()
        return changes


class TestRedisPriceChanges(PriceChangesContract):
    @pytest.fixture
    async def replicas(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
        monkeypatch.setattr(price_changes, "CHANNEL", new_id("test-"))  # a channel of this test's own
        monkeypatch.setattr(pooled, "TIMEOUT_SECONDS", 30)  # a change that is not published in time is lost
        port = urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379
        async with TcpProxy(port) as proxy, AsyncExitStack() as stack:
            yield RedisReplicas(proxy, stack)
