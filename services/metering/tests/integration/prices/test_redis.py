"""News of prices over a real Redis, behind a wire that can be cut."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import pytest
from chassis.ids import new_id
from chassis.redis import Redis
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from metering.adapters import redis as adapter
from metering.adapters.redis import RedisPriceNews
from metering.domain.prices import PriceNews

from services.metering.tests.news_contract import NewsContract, Replicas


class RedisReplicas(Replicas):
    def __init__(self, wire: TcpProxy, stack: AsyncExitStack) -> None:
        super().__init__()
        self._stack = stack
        self._address = urlsplit(os.environ["ARGOSY_REDIS_URL"])
        self._wire = wire

    async def cut(self) -> None:
        await self._wire.cut()

    async def mend(self) -> None:
        await self._wire.mend()

    async def news(self, forget: Callable[[], None]) -> PriceNews:
        listening = asyncio.Event()

        def note_and_forget() -> None:
            forget()
            listening.set()

        credentials, at, _ = self._address.netloc.rpartition("@")
        url = self._address._replace(netloc=f"{credentials}{at}127.0.0.1:{self._wire.port}").geturl()
        redis = await self._stack.enter_async_context(Redis(RedisSection(url=url)))
        news = RedisPriceNews(redis, note_and_forget)
        subscription = news.listen()
        await subscription.start()
        self._stack.push_async_callback(subscription.stop)
        async with asyncio.timeout(10):
            await listening.wait()
        return news


class TestRedisNews(NewsContract):
    @pytest.fixture
    async def replicas(self, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Replicas]:
        monkeypatch.setattr(adapter, "CHANNEL", new_id("test-"))  # no other test speaks here
        port = urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379
        async with TcpProxy(port) as wire, AsyncExitStack() as stack:
            yield RedisReplicas(wire, stack)
