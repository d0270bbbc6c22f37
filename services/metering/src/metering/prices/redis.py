"""Price changes over Redis publish/subscribe: replicas see a new price within milliseconds, not after the TTL."""

from collections.abc import Callable

from chassis.errors import ArgosyError
from chassis.lifecycle import Component
from chassis.redis import Redis
from chassis.telemetry import logger

from metering.metrics import PRICE_INVALIDATIONS

CHANNEL = "argosy.metering.price-set"

log = logger("metering.prices")


class RedisPriceChanges:
    """Publishes and receives price changes; a message is the price key.

    `invalidate` is called for each new price of any replica, this one included, and after each connection, because
    messages may have been lost before it.
    """

    def __init__(self, redis: Redis, invalidate: Callable[[], None]) -> None:
        self._redis = redis
        self._invalidate = invalidate

    async def publish(self, price_key: str) -> None:
        # The price is in force already, so the request does not fail when Redis does.
        try:
            await self._redis.publish(CHANNEL, price_key.encode())
        except ArgosyError as error:
            PRICE_INVALIDATIONS.labels("publish_failed").inc()
            log.warning("price_publish_failed", price_key=price_key, error=error.message)
        else:
            PRICE_INVALIDATIONS.labels("published").inc()

    def subscription(self) -> Component:
        """Receives messages while it runs; it waits for Redis as long as that takes."""
        return self._redis.subscribe(CHANNEL, self._on_message, self._on_connect)

    async def _on_message(self, message: bytes) -> None:
        self._invalidate()
        PRICE_INVALIDATIONS.labels("received").inc()
        log.info("price_change_received", price_key=message.decode(errors="replace"))

    async def _on_connect(self) -> None:
        self._invalidate()
