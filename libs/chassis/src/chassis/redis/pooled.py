"""A client with a connection pool and a timeout of 50 ms per command."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as Client
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.redis.subscription import Handle, Subscription
from chassis.settings import RedisSection

TIMEOUT_SECONDS: Final = 0.05  # of a command
CONNECT_TIMEOUT_SECONDS: Final = 1.0  # of connecting, with the TLS handshake
MAX_CONNECTIONS: Final = 32

UNAVAILABLE_ERRORS: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError, TimeoutError)


class Redis:
    """redis-py with a timeout of 50 ms and a circuit breaker; an async context manager. Opening it does not connect.

    Commands of `client` and its pipelines raise `Unavailable` when Redis does not answer in time, and redis-py's errors
    otherwise. A command on a connection that turns out closed is sent again once, so commands must be repeatable.
    """

    def __init__(self, section: RedisSection, breaker: CircuitBreaker | None = None) -> None:
        self._url = section.url
        self.breaker = breaker or CircuitBreaker("redis")
        self._pool = BlockingConnectionPool.from_url(
            section.url,
            max_connections=MAX_CONNECTIONS,
            timeout=TIMEOUT_SECONDS,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
            # A pooled connection that Redis closed by a restart is noticed only when it is used.
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
        """Raise `Unavailable` unless Redis answers."""
        await self.client.execute_command("PING")  # type: ignore[no-untyped-call]

    async def publish(self, channel: str, message: bytes) -> None:
        """Send a message to the subscribers that are connected now.

        Raises `Unavailable`, also for an error reply such as NOPERM or MOVED: the message has not been sent.
        """
        try:
            await self.client.execute_command("PUBLISH", channel, message)  # type: ignore[no-untyped-call]
        except RedisError as error:
            raise Unavailable(f"redis refuses to publish: {error}") from error

    def subscribe(
        self, channel: str, handle: Handle, on_connect: Callable[[], Awaitable[None]] | None = None
    ) -> Subscription:
        """Return a component that passes the messages of `channel` to `handle`.

        `on_connect` runs after each connection, the first included. Messages may have been missed before it, so it
        should invalidate what they keep fresh.
        """
        return Subscription(self._url, channel, handle, on_connect)


class _Guarded(Client):
    """redis-py's client behind the circuit breaker."""

    breaker: CircuitBreaker

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        run: Callable[..., Awaitable[Any]] = super().execute_command
        return await guarded(self.breaker, lambda: run(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = _GuardedPipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipeline.breaker = self.breaker
        return pipeline


class _GuardedPipeline(Pipeline):
    """redis-py's pipeline behind the circuit breaker."""

    breaker: CircuitBreaker

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        run = super().execute
        replies: list[Any] = await guarded(self.breaker, lambda: run(raise_on_error))
        return replies


async def guarded(breaker: CircuitBreaker, call: Callable[[], Awaitable[Any]]) -> Any:
    """Make a call if the breaker lets it pass, and report the outcome to the breaker."""
    breaker.before_call()
    try:
        reply = await call()
    except UNAVAILABLE_ERRORS as error:
        breaker.record_failure()
        raise Unavailable(f"redis does not answer: {str(error) or type(error).__name__}") from error
    except Exception:
        breaker.record_success()  # an error reply is a reply
        raise
    breaker.record_success()
    return reply
