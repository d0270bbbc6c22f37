"""News of prices over Redis: every replica reads the book again within milliseconds of a new price."""

from __future__ import annotations

from collections.abc import Callable

from chassis.errors import ArgosyError
from chassis.lifecycle import Component
from chassis.redis import Redis
from chassis.telemetry import logger
from redis.exceptions import RedisError

from metering.metrics import PRICE_NEWS

CHANNEL = "argosy.metering.price-set"

log = logger("metering")


class RedisPriceNews:
    """`PriceNews` by Redis publish and subscribe; a message is the price key.

    `forget` is called for each new price of any replica, this one's included, and after each connection, because some
    may have been missed before it.
    """

    def __init__(self, redis: Redis, forget: Callable[[], None]) -> None:
        self._redis = redis
        self._forget = forget

    async def announce(self, price_key: str) -> None:
        """Tell all who are connected. The price is in force already, so that Redis is away is no reason to fail."""
        try:
            await self._redis.publish(CHANNEL, price_key.encode())
        except (ArgosyError, RedisError) as error:
            PRICE_NEWS.labels("unannounced").inc()
            log.warning("price_unannounced", price_key=price_key, error=type(error).__name__)
        else:
            PRICE_NEWS.labels("announced").inc()

    def listen(self) -> Component:
        """What has to run to hear; it waits for Redis as long as that takes."""
        return self._redis.subscribe(CHANNEL, self._on_message, self._on_connect)

    async def _on_message(self, message: bytes) -> None:
        self._forget()
        PRICE_NEWS.labels("heard").inc()
        log.info("price_heard", price_key=message.decode(errors="replace"))

    async def _on_connect(self) -> None:
        self._forget()
