"""Revocations over Redis: every gateway hears within milliseconds which key is no longer good.

Whether anything is heard is not left to belief: when nothing came for a while, some gateway says a word to all. Who
does not hear even that stops trusting its memory until it hears again, and then checks everything it had remembered.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError
from chassis.lifecycle import Component, Loop
from chassis.redis import Redis
from chassis.telemetry import logger

from gateway.metrics import REVOCATIONS

CHANNEL = "argosy.identity.key-revoked"
BEAT = b""

log = logger("gateway")


class RedisRevocations:
    """`Revocations` by Redis publish and subscribe.

    `forget` is called with each key that was revoked; `hear` with whether revocations are heard, when that changes and
    after each connection. Silence of `silence` is deafness; a word is said after a third of it.
    """

    def __init__(
        self,
        redis: Redis,
        clock: Clock,
        *,
        forget: Callable[[str], None],
        hear: Callable[[bool], None],
        silence: timedelta = timedelta(milliseconds=600),
    ) -> None:
        self._redis = redis
        self._clock = clock
        self._forget = forget
        self._hear = hear
        self._silence = silence.total_seconds()
        self._heard_at = float("-inf")
        self._hearing = False
        self._untold: set[str] = set()

    async def announce(self, key_id: str) -> None:
        """Tell all; what cannot be told now is tried again until it is."""
        self._forget(key_id)
        if not await self._tell(key_id):
            self._untold.add(key_id)
            REVOCATIONS.labels("deferred").inc()
            log.warning("revocation_deferred", key_id=key_id)

    def components(self) -> Sequence[Component]:
        """What has to run: the subscription, and the watch over it."""
        return [
            self._redis.subscribe(CHANNEL, self._on_message, self._on_connect),
            Loop("revocations watch", self._watch),
        ]

    async def _on_connect(self) -> None:
        self._heard_at = self._clock.monotonic()
        self._hearing = True
        self._hear(True)

    async def _on_message(self, message: bytes) -> None:
        self._heard_at = self._clock.monotonic()
        if message != BEAT:
            REVOCATIONS.labels("heard").inc()
            self._forget(message.decode())
        if not self._hearing:
            await self._on_connect()

    async def _watch(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.check()
            # Not in step with the other gateways: one word serves all.
            await _pause(stop, self._silence / 6 * random.uniform(0.5, 1.5))  # noqa: S311 - no secret

    async def check(self) -> None:
        """Look once: say what is still untold, a word when it has been quiet, and that we are deaf when we are."""
        quiet = self._clock.monotonic() - self._heard_at
        if self._hearing and quiet >= self._silence:
            self._hearing = False
            self._hear(False)
            log.warning("revocations_unheard", seconds=round(quiet, 3))
        for key_id in sorted(self._untold):
            if await self._tell(key_id):
                self._untold.discard(key_id)
        if quiet >= self._silence / 3:
            await self._publish(BEAT)

    async def _tell(self, key_id: str) -> bool:
        told = await self._publish(key_id.encode())
        if told:
            REVOCATIONS.labels("announced").inc()
        return told

    async def _publish(self, message: bytes) -> bool:
        try:
            await self._redis.publish(CHANNEL, message)
        except ArgosyError:
            return False
        return True


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
