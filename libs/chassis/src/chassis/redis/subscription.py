"""Subscriptions to Redis channels: messages that are published while the connection is open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chassis.aio import Backoff, ConnectionLog, wait_or_stop
from chassis.lifecycle import Loop
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

CONNECT_TIMEOUT_SECONDS: Final = 1.0  # of connecting, with the TLS handshake
SUBSCRIBE_TIMEOUT_SECONDS: Final = 2.0  # of connecting, logging in and sending SUBSCRIBE
# After this time without a message Redis is pinged; without an answer in the same time the connection is dropped.
PING_INTERVAL_SECONDS: Final = 0.5
MAX_RETRY_SECONDS: Final = 2.0

Handle = Callable[[bytes], Awaitable[None]]

log = logger("chassis.redis")


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
