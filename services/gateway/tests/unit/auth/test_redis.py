"""Revocations over Redis, with a Redis that does as it is told."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock
from gateway.adapters.redis import BEAT, CHANNEL, RedisRevocations


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


class Ear:
    """One gateway."""

    def __init__(self) -> None:
        self.redis, self.clock = FakeRedis(), FakeClock()
        self.forgotten: list[str] = []
        self.heard: list[bool] = []
        self.revocations = RedisRevocations(
            self.redis,  # type: ignore[arg-type]
            self.clock,
            forget=self.forgotten.append,
            hear=self.heard.append,
            silence=timedelta(milliseconds=600),
        )
        self.revocations.components()

    async def pass_time(self, milliseconds: int) -> None:
        self.clock.advance(timedelta(milliseconds=milliseconds))
        await self.revocations.check()


@pytest.fixture
async def ear() -> Ear:
    ear = Ear()
    await ear.redis.connect()
    return ear


async def test_a_revocation_is_told_to_all_and_heard(ear: Ear) -> None:
    await ear.revocations.announce("key_1")

    assert ear.redis.published == [b"key_1"]
    assert set(ear.forgotten) == {"key_1"}


async def test_a_connection_means_that_something_may_have_been_missed(ear: Ear) -> None:
    await ear.redis.connect()

    assert ear.heard == [True, True]


async def test_a_word_is_said_when_it_is_quiet_and_one_is_enough(ear: Ear) -> None:
    await ear.pass_time(100)
    assert ear.redis.published == []
    await ear.pass_time(150)
    assert ear.redis.published == [BEAT]
    await ear.pass_time(100)
    assert ear.redis.published == [BEAT]  # it was heard, by ourselves too
    assert ear.heard == [True]


async def test_silence_is_deafness_and_a_word_ends_it(ear: Ear) -> None:
    ear.redis.down = True
    await ear.pass_time(599)
    assert ear.heard == [True]
    await ear.pass_time(2)
    assert ear.heard == [True, False]
    await ear.pass_time(1000)
    assert ear.heard == [True, False]  # said once

    ear.redis.down = False
    await ear.pass_time(100)
    assert ear.heard == [True, False, True]


async def test_what_cannot_be_told_now_is_told_later_and_known_here_at_once(ear: Ear) -> None:
    ear.redis.down = True
    await ear.revocations.announce("key_1")
    await ear.revocations.announce("key_2")
    assert ear.forgotten == ["key_1", "key_2"]
    await ear.pass_time(100)
    assert ear.redis.published == []

    ear.redis.down = False
    await ear.pass_time(10)
    assert ear.redis.published == [b"key_1", b"key_2"]
    await ear.pass_time(10)
    assert ear.redis.published == [b"key_1", b"key_2"]  # once
