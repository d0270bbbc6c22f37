"""News of prices over Redis, with a Redis that does as it is told."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chassis.errors import Unavailable
from metering.adapters.redis import RedisPriceNews
from metering.metrics import PRICE_NEWS
from redis.exceptions import NoPermissionError


class FakeRedis:
    """Notes what is published, or refuses it."""

    def __init__(self) -> None:
        self.refusal: Exception | None = None
        self.published: list[tuple[str, bytes]] = []
        self.channel = ""
        self.say: Callable[[bytes], Awaitable[None]]
        self.connect: Callable[[], Awaitable[None]]

    def subscribe(self, channel: str, handle: Any, on_connect: Any) -> object:
        self.channel, self.say, self.connect = channel, handle, on_connect
        return object()

    async def publish(self, channel: str, message: bytes) -> None:
        if self.refusal:
            raise self.refusal
        self.published.append((channel, message))


class Replica:
    """One that listens, and counts how often it forgot."""

    def __init__(self) -> None:
        self.redis, self.forgot = FakeRedis(), 0
        self.news = RedisPriceNews(self.redis, self.forget)  # type: ignore[arg-type]
        self.news.listen()

    def forget(self) -> None:
        self.forgot += 1


@pytest.fixture
def replica() -> Replica:
    return Replica()


def counted(event: str) -> float:
    return float(PRICE_NEWS.labels(event)._value.get())


async def test_a_new_price_is_told_by_its_key_on_the_channel_that_is_listened_to(replica: Replica) -> None:
    before = counted("announced")
    await replica.news.announce("local/ä")

    assert replica.redis.channel == "argosy.metering.price-set"
    assert replica.redis.published == [("argosy.metering.price-set", "local/ä".encode())]
    assert counted("announced") == before + 1


@pytest.mark.parametrize("refusal", [Unavailable("redis does not answer"), NoPermissionError("no such channel")])
async def test_a_redis_that_does_not_take_the_news_is_counted_and_no_failure(
    replica: Replica, refusal: Exception
) -> None:
    before = counted("unannounced")
    replica.redis.refusal = refusal
    await replica.news.announce("local/a")

    assert counted("unannounced") == before + 1


@pytest.mark.parametrize("message", [b"local/a", b"\xff"])
async def test_whatever_is_heard_makes_the_book_old(replica: Replica, message: bytes) -> None:
    before = counted("heard")
    await replica.redis.say(message)

    assert (replica.forgot, counted("heard")) == (1, before + 1)


async def test_each_connection_makes_the_book_old(replica: Replica) -> None:
    await replica.redis.connect()
    await replica.redis.connect()

    assert replica.forgot == 2
