"""Revocations over a fake Redis."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from inspect import signature
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from gateway.auth.redis import CHANNEL, HEARTBEAT_MESSAGE, RedisRevocations
from gateway.settings import KeysSection


class FakeRedis:
    """Delivers to one subscriber at once; while `down`, not at all."""

    def __init__(self) -> None:
        self.down = False
        self.published: list[bytes] = []
        self._handle: Callable[[bytes], Awaitable[None]] | None = None
        self._on_connect: Callable[[], Awaitable[None]] | None = None

    def subscribe(self, channel: str, handle: Any, on_connect: Any) -> object:
        assert channel == CHANNEL
        self._handle, self._on_connect = handle, on_connect
        return object()

    async def publish(self, channel: str, message: bytes) -> None:
        if self.down:
            raise Unavailable("redis does not answer")
        self.published.append(message)
        assert self._handle is not None
        await self._handle(message)

    async def connect(self) -> None:
        assert self._on_connect is not None
        await self._on_connect()


class Gateway:
    """The revocations of one gateway."""

    def __init__(self) -> None:
        self.redis, self.clock = FakeRedis(), FakeClock()
        self.invalidated: list[str] = []
        self.health: list[bool] = []
        self.revocations = RedisRevocations(
            self.redis,  # type: ignore[arg-type]
            self.clock,
            invalidate=self.invalidated.append,
            set_channel_healthy=self.health.append,
            timeout=timedelta(milliseconds=600),
        )
        self.revocations.components()

    async def pass_time(self, milliseconds: int) -> None:
        self.clock.advance(timedelta(milliseconds=milliseconds))
        await self.revocations.check()


@pytest.fixture
async def one() -> Gateway:
    one = Gateway()
    await one.redis.connect()
    return one


async def test_a_revocation_is_published_and_received(one: Gateway) -> None:
    await one.revocations.publish("key_1")

    assert one.redis.published == [b"key_1"]
    assert set(one.invalidated) == {"key_1"}


async def test_each_connection_reports_that_revocations_may_have_been_missed(one: Gateway) -> None:
    await one.redis.connect()

    assert one.health == [True, True]


async def test_an_idle_channel_gets_one_heartbeat(one: Gateway) -> None:
    await one.pass_time(100)
    assert one.redis.published == []
    await one.pass_time(150)
    assert one.redis.published == [HEARTBEAT_MESSAGE]
    await one.pass_time(100)
    assert one.redis.published == [HEARTBEAT_MESSAGE]  # its own heartbeat counts
    assert one.health == [True]


async def test_the_channel_is_down_after_a_timeout_and_up_after_a_heartbeat(one: Gateway) -> None:
    one.redis.down = True
    await one.pass_time(599)
    assert one.health == [True]
    await one.pass_time(2)
    assert one.health == [True, False]
    await one.pass_time(1000)
    assert one.health == [True, False]  # reported once

    one.redis.down = False
    await one.pass_time(100)
    assert one.health == [True, False, True]


async def test_a_revocation_that_cannot_be_published_is_published_later_and_applied_here_at_once(one: Gateway) -> None:
    one.redis.down = True
    await one.revocations.publish("key_1")
    await one.revocations.publish("key_2")
    assert one.invalidated == ["key_1", "key_2"]
    await one.pass_time(100)
    assert one.redis.published == []

    one.redis.down = False
    await one.pass_time(10)
    assert one.redis.published == [b"key_1", b"key_2"]
    await one.pass_time(10)
    assert one.redis.published == [b"key_1", b"key_2"]  # once


async def test_without_the_channel_a_revoked_key_is_accepted_for_a_second_at_most() -> None:
    """The time-out, the longest pause between two looks at it, and what a cached key is still trusted then."""
    timeout: timedelta = signature(RedisRevocations.__init__).parameters["timeout"].default
    degraded: timedelta = KeysSection.model_fields["cache_ttl_degraded"].default

    assert timeout + timeout / 6 * 1.5 + degraded <= timedelta(seconds=1)
