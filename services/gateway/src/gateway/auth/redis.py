"""Revocations over Redis publish and subscribe.

Gateways send heartbeats. When none arrives in time, cached keys get the degraded TTL until one does.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta

from chassis.aio import wait_or_stop
from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.lifecycle import Component, Loop
from chassis.redis import Redis
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog

from gateway.metrics import REVOCATIONS

CHANNEL = "argosy.identity.key-revoked"
HEARTBEAT_MESSAGE = b""

# An alert does not see the increase from no sample to a first one, so that rare events are 0 from the start.
_REVOCATIONS = {event: REVOCATIONS.labels(event) for event in ("published", "received", "deferred")}

log = logger("gateway")


class RedisRevocations:
    """Publishes revoked key ids to all gateways, and receives them.

    `invalidate` is called with each revoked key id. `set_channel_healthy` is called when the channel goes up or down,
    and after each connection. The channel is down when nothing arrived for `timeout`; after a third of that, a gateway
    sends a heartbeat.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        *,
        invalidate: Callable[[str], None],
        set_channel_healthy: Callable[[bool], None],
        timeout: timedelta = timedelta(milliseconds=600),
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._invalidate = invalidate
        self._set_channel_healthy = set_channel_healthy
        self._timeout_seconds = timeout.total_seconds()
        self._received_at = float("-inf")
        self._healthy = False
        self._unpublished: set[str] = set()
        self._failure_log = RateLimitedLog(log)

    async def publish(self, key_id: str) -> None:
        """Publish a revocation. Never raises: when Redis is down, it is published once Redis is back."""
        self._invalidate(key_id)
        if not await self._publish_revocation(key_id):
            self._unpublished.add(key_id)
            _REVOCATIONS["deferred"].inc()
            log.warning("revocation_deferred", key_id=key_id)

    def components(self) -> Sequence[Component]:
        """The subscription, and the loop that checks it."""
        return [
            self._redis.subscribe(CHANNEL, self._on_message, self._on_connect),
            Loop("revocation channel check", self._check_until_stopped),
        ]

    async def check(self) -> None:
        """Publish pending revocations, send a heartbeat when idle, report the channel down after a time-out."""
        idle_seconds = self._clock.monotonic() - self._received_at
        if self._healthy and idle_seconds >= self._timeout_seconds:
            self._healthy = False
            self._set_channel_healthy(False)
            log.warning("revocation_channel_down", seconds=round(idle_seconds, 3))
        for key_id in sorted(self._unpublished):
            if await self._publish_revocation(key_id):
                self._unpublished.discard(key_id)
        if idle_seconds >= self._timeout_seconds / 3:
            await self._publish(HEARTBEAT_MESSAGE)

    async def _on_connect(self) -> None:
        self._received_at = self._clock.monotonic()
        self._healthy = True
        self._set_channel_healthy(True)

    async def _on_message(self, message: bytes) -> None:
        self._received_at = self._clock.monotonic()
        if message != HEARTBEAT_MESSAGE:
            _REVOCATIONS["received"].inc()
            self._invalidate(message.decode())
        if not self._healthy:
            await self._on_connect()

    async def _check_until_stopped(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.check()
            # Jitter: gateways that check at the same time would all send a heartbeat, and one is enough.
            await wait_or_stop(stop, self._timeout_seconds / 6 * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def _publish_revocation(self, key_id: str) -> bool:
        published = await self._publish(key_id.encode())
        if published:
            _REVOCATIONS["published"].inc()
        return published

    async def _publish(self, message: bytes) -> bool:
        try:
            await self._redis.publish(CHANNEL, message)
        except ArgosyError as error:
            # Also an error reply, such as NOPERM. Without heartbeats the channel counts as down after the time-out.
            self._failure_log.warning("revocation_publish_failed", key=error.reason, error=error.message)
            return False
        return True
