"""Hearing from Redis: what is published while we are connected."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from redis.asyncio import Redis as Client
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from chassis.backoff import Backoff
from chassis.lifecycle import Loop
from chassis.telemetry import logger

CONNECT_SECONDS: Final = 1.0
# Redis is asked for a sign of life after each such silence, and given up when the next one passes without it.
SILENCE_SECONDS: Final = 0.5
LONGEST_WAIT_SECONDS: Final = 2.0

Handle = Callable[[bytes], Awaitable[None]]

log = logger("chassis.redis")


class Subscription(Loop):
    """A component that hands each message of `channel` to `handle`, and calls `on_connect` when it has (re)subscribed.

    A handler that raises is logged and the next message comes. While Redis is away it tries again with growing pauses
    of two seconds at most.
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
        self._connected = True

    async def _listen(self, stop: asyncio.Event) -> None:
        backoff = Backoff(first=0.1, longest=LONGEST_WAIT_SECONDS)
        while not stop.is_set():
            client = Client.from_url(
                self._url,
                socket_connect_timeout=CONNECT_SECONDS,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
                driver_info=None,
            )
            try:
                async with client, client.pubsub() as pubsub:
                    await pubsub.subscribe(self._channel)
                    await self._hear(pubsub, stop, backoff)
            except (RedisError, OSError, TimeoutError) as error:
                self._say(connected=False, error=error)
                await _rest(stop, backoff.next())

    async def _hear(self, pubsub: Any, stop: asyncio.Event, backoff: Backoff) -> None:
        asked = False
        while not stop.is_set():
            message = await pubsub.get_message(timeout=SILENCE_SECONDS)
            if message is None:
                if asked:
                    raise TimeoutError("redis is silent")
                await pubsub.ping()
                asked = True
                continue
            asked = False
            if message["type"] == "subscribe":
                self._say(connected=True)
                backoff.reset()
                await self._tell(self._on_connect)
            elif message["type"] == "message":
                await self._tell(self._handle, message["data"])

    async def _tell(self, call: Callable[..., Awaitable[None]] | None, *args: bytes) -> None:
        if call is None:
            return
        try:
            await call(*args)
        except Exception:  # one bad message must not silence the channel
            log.exception("message_not_handled", channel=self._channel)

    def _say(self, *, connected: bool, error: Exception | None = None) -> None:
        if connected == self._connected:
            return
        self._connected = connected
        if connected:
            log.info("redis_subscribed_again", channel=self._channel)
        else:
            log.warning("redis_not_subscribed", channel=self._channel, error=type(error).__name__)


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
