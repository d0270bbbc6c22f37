"""Price changes over a fake Redis."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from chassis.errors import Unavailable
from metering.prices.redis import RedisPriceChanges

from services.metering.tests.examples import metric


class FakeRedis:
    """Records what is published, or fails with `error`."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.published: list[tuple[str, bytes]] = []
        self.channel = ""
        self.receive: Callable[[bytes], Awaitable[None]]
        self.connect: Callable[[], Awaitable[None]]

    def subscribe(self, channel: str, handle: Any, on_connect: Any) -> object:
        self.channel, self.receive, self.connect = channel, handle, on_connect
        return object()

    async def publish(self, channel: str, message: bytes) -> None:
        if self.error:
            raise self.error
        self.published.append((channel, message))


class Replica:
    """Subscribes, and counts invalidations."""

    def __init__(self) -> None:
        self.redis, self.invalidations = FakeRedis(), 0
        self.changes = RedisPriceChanges(self.redis, self.invalidate)  # type: ignore[arg-type]
        self.changes.subscription()

    def invalidate(self) -> None:
        self.invalidations += 1


@pytest.fixture
def replica() -> Replica:
    return Replica()


def counted(event: str) -> float:
    return metric("price_invalidations_total", event=event)


async def test_a_new_price_is_published_by_its_key_on_the_subscribed_channel(replica: Replica) -> None:
    before = counted("published")
    await replica.changes.publish("local/ä")

    assert replica.redis.channel == "argosy.metering.price-set"
    assert replica.redis.published == [("argosy.metering.price-set", "local/ä".encode())]
    assert counted("published") == before + 1


@pytest.mark.parametrize("error", [Unavailable("redis does not answer"), Unavailable("redis refuses to publish")])
async def test_a_failure_to_publish_is_counted_and_not_raised(replica: Replica, error: Exception) -> None:
    before = counted("publish_failed")
    replica.redis.error = error
    await replica.changes.publish("local/a")

    assert counted("publish_failed") == before + 1


@pytest.mark.parametrize("message", [b"local/a", b"\xff"])
async def test_any_message_invalidates_the_cache(replica: Replica, message: bytes) -> None:
    before = counted("received")
    await replica.redis.receive(message)

    assert (replica.invalidations, counted("received")) == (1, before + 1)


async def test_each_connection_invalidates_the_cache(replica: Replica) -> None:
    await replica.redis.connect()
    await replica.redis.connect()

    assert replica.invalidations == 2
