"""Scores of replicas over Redis publish/subscribe. Nothing of them is kept there."""

from collections.abc import Awaitable, Callable
from typing import Final

from chassis.lifecycle import Component
from chassis.redis import Redis

SCORES_CHANNEL: Final = "argosy:scores"


class RedisScores:
    """Implements `ScoreChannel`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def publish(self, message: bytes) -> None:
        await self._redis.publish(SCORES_CHANNEL, message)

    def subscription(self, receive: Callable[[bytes], Awaitable[None]]) -> Component:
        """Call `receive` for each message of any replica, this one included."""
        return self._redis.subscribe(SCORES_CHANNEL, receive, _ignore)


async def _ignore() -> None:
    """A replica that was not connected misses what others counted meanwhile, and learns it by its own calls."""
