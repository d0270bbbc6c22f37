"""A client with a connection pool and a timeout of 50 ms per command, and subscriptions to channels."""

from __future__ import annotations

import asyncio
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

from chassis.aio import Backoff, ConnectionLog, Loop, wait_or_stop
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.settings import RedisSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

TIMEOUT_SECONDS: Final = 0.05  # of a command
CONNECT_TIMEOUT_SECONDS: Final = 1.0  # of connecting, with the TLS handshake
MAX_CONNECTIONS: Final = 32
SUBSCRIBE_TIMEOUT_SECONDS: Final = 2.0  # of connecting, logging in and sending SUBSCRIBE
# After this time without a message Redis is pinged; without an answer in the same time the connection is dropped.
PING_INTERVAL_SECONDS: Final = 0.5
MAX_RETRY_SECONDS: Final = 2.0

UNAVAILABLE_ERRORS: Final = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, OSError, TimeoutError)

Handle = Callable[[bytes], Awaitable[None]]

log = logger("chassis.redis")


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


class Subscription(Loop):
    """A component that passes each message of `channel` to `handle`; `on_connect` runs after each (re)subscription.

    An error of a handler is logged, and the next message is handled. While Redis is down, or refuses SUBSCRIBE, it
    reconnects with backoff, every two seconds at most.
    """

    def __init__(
        self,
        url: str,
        channel: str,
        handle: Handle,
        on_connect: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(f"subscription {channel}", self._listen)
        self._url = url
        self._channel = channel
        self._handle = handle
        self._on_connect = on_connect
        self._failure_log = RateLimitedLog(log)
        self._connection_log = ConnectionLog(
            log, "redis_subscription_lost", "redis_subscription_recovered", channel=channel
        )

    async def _listen(self, stop: asyncio.Event) -> None:
        backoff = Backoff(min_seconds=0.1, max_seconds=MAX_RETRY_SECONDS)
        while not stop.is_set():
            client = Client.from_url(
                self._url,
                socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                driver_info=None,
            )
            try:
                async with client, client.pubsub() as pubsub:
                    async with asyncio.timeout(SUBSCRIBE_TIMEOUT_SECONDS):
                        await pubsub.subscribe(self._channel)
                    await self._receive(pubsub, stop, backoff)
            except Exception as error:  # noqa: BLE001 - what Redis answers must not end the service
                self._connection_log.set(connected=False, error=str(error) or type(error).__name__)
                await wait_or_stop(stop, backoff.next())

    async def _receive(self, pubsub: Any, stop: asyncio.Event, backoff: Backoff) -> None:
        pinged = False
        while not stop.is_set():
            message = await pubsub.get_message(timeout=PING_INTERVAL_SECONDS)
            if message is None:
                if pinged:
                    raise TimeoutError("redis does not answer a ping")
                await pubsub.ping()
                pinged = True
                continue
            pinged = False
            if message["type"] == "subscribe":
                self._connection_log.set(connected=True)
                backoff.reset()
                await self._call_handler(self._on_connect)
            elif message["type"] == "message":
                await self._call_handler(self._handle, message["data"])

    async def _call_handler(self, call: Callable[..., Awaitable[None]] | None, *args: bytes) -> None:
        if call is None:
            return
        try:
            await call(*args)
        except Exception:  # noqa: BLE001 - one bad message must not end the subscription
            self._failure_log.warning("redis_message_failed", key="handler", channel=self._channel, exc_info=True)
