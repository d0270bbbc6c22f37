"""A client that gives up after 50 ms."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.errors import Unavailable
from chassis.redis.breaker import Breaker
from chassis.redis.subscription import Handle, Subscription
from chassis.settings import RedisSection

PATIENCE_SECONDS: Final = 0.05
CONNECTIONS: Final = 32

AWAY: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError, TimeoutError)


class Redis:
    """Redis with 50 ms of patience and a breaker; an async context manager. Opening it does not connect.

    What `client` and its pipelines cannot get in time is `Unavailable`; what Redis answers, errors included, is as in
    redis-py. A command on a connection that was found closed is sent again once, so commands must be safe to repeat.
    """

    def __init__(self, section: RedisSection, breaker: Breaker | None = None) -> None:
        self._url = section.url
        self.breaker = breaker or Breaker("redis")
        self._pool = BlockingConnectionPool.from_url(
            section.url,
            max_connections=CONNECTIONS,
            timeout=PATIENCE_SECONDS,
            socket_timeout=PATIENCE_SECONDS,
            socket_connect_timeout=PATIENCE_SECONDS,
            # A connection of before a restart of Redis shows only when it is used.
            retry=Retry(NoBackoff(), 1, (RedisConnectionError,)),
            protocol=2,
            driver_info=None,
        )
        self.client: Client = _Guarded(connection_pool=self._pool)
        self.client.breaker = self.breaker

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        await self._pool.disconnect()

    async def ping(self) -> None:
        """Return when Redis answers; raise `Unavailable` when it does not."""
        await self.client.execute_command("PING")  # type: ignore[no-untyped-call]

    async def publish(self, channel: str, message: bytes) -> None:
        """Tell the subscribers of `channel` that are connected now."""
        await self.client.execute_command("PUBLISH", channel, message)  # type: ignore[no-untyped-call]

    def subscribe(
        self, channel: str, handle: Handle, on_connect: Callable[[], Awaitable[None]] | None = None
    ) -> Subscription:
        """Return a component that hands the messages of `channel` to `handle`.

        `on_connect` runs after each (re)connection, the first included: messages may have been missed before it, so
        flush what they keep fresh.
        """
        return Subscription(self._url, channel, handle, on_connect)


class _Guarded(Client):
    """redis-py's client behind the breaker."""

    breaker: Breaker

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        run: Callable[..., Awaitable[Any]] = super().execute_command
        return await guarded(self.breaker, lambda: run(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Collect commands to be sent together."""
        pipeline = _GuardedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.breaker = self.breaker
        return pipeline


class _GuardedPipeline(Pipeline):
    """redis-py's pipeline behind the breaker."""

    breaker: Breaker

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected and return the answers."""
        run = super().execute
        answers: list[Any] = await guarded(self.breaker, lambda: run(raise_on_error))
        return answers


async def guarded(breaker: Breaker, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call if the breaker admits it, and tell the breaker how it went."""
    breaker.admit()
    try:
        answer = await call()
    except AWAY as error:
        breaker.failed()
        raise Unavailable("redis does not answer") from error
    except Exception:
        breaker.succeeded()  # an answer all the same
        raise
    breaker.succeeded()
    return answer
