"""The exchange of circuits by Redis: nothing of it is kept there but the names of running probes."""

from collections.abc import Awaitable
from typing import Any, Final

from chassis.errors import Unavailable
from chassis.redis import Redis
from redis.exceptions import RedisError

CIRCUITS_CHANNEL: Final = "argosy:circuits"
PROBE_PREFIX: Final = "argosy:circuits:probe:"


class RedisExchange:
    """Implements `CircuitExchange`."""

    def __init__(self, redis: Redis, replica: str) -> None:
        self._redis = redis
        self._replica = replica

    async def publish(self, message: bytes) -> None:
        await self._redis.publish(CIRCUITS_CHANNEL, message)

    async def claim(self, name: str, seconds: float) -> bool:
        milliseconds = max(1, int(seconds * 1000))
        return bool(await _answer(self._redis.client.set(PROBE_PREFIX + name, self._replica, nx=True, px=milliseconds)))

    async def release(self, name: str) -> None:
        await _answer(self._redis.client.delete(PROBE_PREFIX + name))


async def _answer(command: Awaitable[Any]) -> Any:
    try:
        return await command
    except RedisError as error:
        # Such as NOPERM, OOM or MISCONF: then replicas are as alone as without Redis.
        raise Unavailable(f"redis refuses to share circuits: {error}") from error
