"""Announcements of changes over Redis publish/subscribe. Processes that miss one poll the version."""

from collections.abc import Callable
from typing import Final

from chassis.errors import ArgosyError
from chassis.lifecycle import Component
from chassis.redis import Redis
from chassis.telemetry import logger

CHANNEL: Final = "argosy:configuration"

log = logger("orchestrator.configuration")


class RedisAnnouncements:
    """Publishes and receives versions of the configuration."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, version: int) -> None:
        # The change is committed, so the request does not fail when Redis does.
        try:
            await self._redis.publish(CHANNEL, b"%d" % version)
        except ArgosyError as error:
            log.warning("configuration_publish_failed", version=version, error=error.message)

    def subscription(self, wake: Callable[[], None]) -> Component:
        """Call `wake` for each version of any replica, and after each connection: messages may have been lost."""

        async def on_message(_: bytes) -> None:
            wake()

        async def on_connect() -> None:
            wake()

        return self._redis.subscribe(CHANNEL, on_message, on_connect)
