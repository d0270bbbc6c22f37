"""The clients and the subscription on a real Redis, behind a proxy that can be cut and frozen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.redis import (
    MultiplexedRedis,
    Redis,
    Script,
    Subscription,
    multiplexed,
    pooled,
)
from chassis.settings import RedisSection
from chassis.testing import FakeClock
from chassis.testing.logs import captured_lines
from chassis.testing.network import TcpProxy
from redis.exceptions import ResponseError


@pytest.fixture
async def wire() -> AsyncIterator[TcpProxy]:
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as wire:
        yield wire


@pytest.fixture
async def redis(wire: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Redis]:
    # 50 ms can pass on a busy test machine without any fault of Redis.
    monkeypatch.setattr(pooled, "TIMEOUT_SECONDS", 30)
    section = RedisSection(url=f"redis://127.0.0.1:{wire.port}/0")
    async with Redis(section, CircuitBreaker("redis", max_failures=3, open_seconds=0.5)) as redis:
        yield redis


async def test_commands_and_pipelines_are_answered(redis: Redis) -> None:
    key = new_id("test_")
    await redis.ping()
    await redis.client.set(key, b"1", px=10_000)
    async with redis.client.pipeline(transaction=False) as pipeline:
        pipeline.incr(key)
        pipeline.get(key)
        answers = await pipeline.execute()

    assert answers == [2, b"2"]
    assert await redis.client.eval("return redis.call('GET', KEYS[1])", 1, key) == b"2"
    script = redis.client.register_script("return redis.call('DEL', KEYS[1])")
    assert await script(keys=[key]) == 1


async def test_an_error_of_redis_is_an_answer(redis: Redis) -> None:
    await redis.client.set("key of a string", "x", px=10_000)
    for _ in range(5):
        with pytest.raises(ResponseError):
            await redis.client.hget("key of a string", "field")

    assert not redis.breaker.open
    await redis.ping()


@pytest.mark.degraded(
    down="Redis slow", area="sync", holds="a command costs 50 ms at most, and nothing once the breaker has opened"
)
async def test_an_unresponsive_redis_costs_its_timeout_until_the_breaker_opens(
    wire: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooled, "TIMEOUT_SECONDS", 0.25)
    section = RedisSection(url=f"redis://127.0.0.1:{wire.port}/0")
    async with Redis(section, CircuitBreaker("redis", max_failures=3, open_seconds=600)) as redis:
        wire.freeze()
        for _ in range(3):
            assert not redis.breaker.open
            with pytest.raises(Unavailable, match="redis does not answer"):
                await redis.ping()
        assert redis.breaker.open
        pipeline = redis.client.pipeline()
        pipeline.get("key")
        # While the breaker is open a command fails before it would wait for anything.
        ends_without_waiting(redis.client.get("key"))
        ends_without_waiting(pipeline.execute())
        ends_without_waiting(redis.ping())


def ends_without_waiting(command: Awaitable[object]) -> None:
    """The command raises `Unavailable` in its first step."""
    with pytest.raises(Unavailable):
        next(command.__await__())


async def test_a_redis_that_comes_back_is_used_again(redis: Redis, wire: TcpProxy) -> None:
    await wire.cut()
    while not redis.breaker.open:
        with pytest.raises(Unavailable):
            await redis.ping()
    await wire.mend()

    async with asyncio.timeout(30):
        await until_answered(redis)
    assert not redis.breaker.open


async def until_answered(redis: Redis | MultiplexedRedis) -> None:
    while True:
        try:
            return await redis.ping()
        except Unavailable:
            await asyncio.sleep(0.02)


async def test_a_connection_that_was_closed_meanwhile_is_not_noticed(redis: Redis, wire: TcpProxy) -> None:
    await redis.ping()
    await wire.cut()
    await wire.mend()

    await redis.ping()


@pytest.fixture
async def multiplexed_redis(wire: TcpProxy, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedRedis]:
    monkeypatch.setattr(multiplexed, "TIMEOUT_SECONDS", 30)  # however busy the machine
    section = RedisSection(url=f"redis://127.0.0.1:{wire.port}/3")
    async with MultiplexedRedis(section, CircuitBreaker("redis", max_failures=3, open_seconds=0.5)) as redis:
        yield redis


async def test_many_share_one_connection_and_each_gets_its_own(multiplexed_redis: MultiplexedRedis) -> None:
    redis, prefix = multiplexed_redis, new_id("test_")

    async def use(number: int) -> bytes:
        await redis.send("SET", f"{prefix}{number}", number, "PX", 10_000)
        got: bytes = await redis.send("GET", f"{prefix}{number}")
        return got

    clients_before = await redis.send("CLIENT", "LIST")
    answers = await asyncio.gather(*(use(number) for number in range(500)))
    assert answers == [str(number).encode() for number in range(500)]
    listed = await redis.send("CLIENT", "LIST")
    assert listed.count(b"db=3") == clients_before.count(b"db=3") == 1


async def test_a_large_reply_and_a_large_command_pass(multiplexed_redis: MultiplexedRedis) -> None:
    key, value = new_id("test_"), b"x" * 300_000
    small = multiplexed_redis.send("PING")
    await multiplexed_redis.send("SET", key, value, "PX", 10_000)

    assert await multiplexed_redis.send("GET", key) == value
    assert await small == b"PONG"


async def test_a_script_that_redis_does_not_know_is_sent_again(multiplexed_redis: MultiplexedRedis) -> None:
    script = Script("return {KEYS[1], ARGV[1]}")
    for _ in range(2):
        await multiplexed_redis.send("SCRIPT", "FLUSH")
        for _ in range(2):
            assert await multiplexed_redis.run(script, ["key"], [7]) == [b"key", b"7"]


async def test_a_frozen_redis_costs_the_multiplexed_client_no_more_than_its_timeout(
    wire: TcpProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiplexed, "TIMEOUT_SECONDS", 0.25)
    monkeypatch.setattr(multiplexed, "UNRESPONSIVE_SECONDS", 600)
    clock = FakeClock()
    breaker = CircuitBreaker("redis", max_failures=3, open_seconds=0.5, now=clock.monotonic)
    async with MultiplexedRedis(RedisSection(url=f"redis://127.0.0.1:{wire.port}/3"), breaker) as redis:
        wire.freeze()
        async with asyncio.timeout(30):
            while not breaker.open:
                with pytest.raises(Unavailable):
                    await redis.ping()
                await asyncio.sleep(0)
        ends_without_waiting(redis.ping())
        await wire.mend()

        async with asyncio.timeout(30):
            while breaker.open:
                clock.advance(timedelta(seconds=1))
                with suppress(Unavailable):
                    await redis.ping()
                await asyncio.sleep(0.02)


async def test_the_multiplexed_one_comes_back_after_a_cut_in_the_middle(
    multiplexed_redis: MultiplexedRedis, wire: TcpProxy
) -> None:
    redis, ends = multiplexed_redis, []

    async def use() -> None:
        for _ in range(50):
            try:
                ends.append(await redis.send("ECHO", b"x"))
            except Unavailable:
                ends.append(None)
                await asyncio.sleep(0.001)

    users = asyncio.gather(*(use() for _ in range(20)))
    await asyncio.sleep(0.005)
    await wire.cut()
    await wire.mend()
    await users

    assert len(ends) == 1000
    async with asyncio.timeout(30):
        await until_answered(redis)
    assert await redis.send("ECHO", b"y") == b"y"


class Listener:
    """Records the messages."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._noted = asyncio.Condition()

    async def receive(self, message: bytes) -> None:
        if message == b"bad":
            raise ValueError
        async with self._noted:
            self.received.append(message)
            self._noted.notify_all()

    async def connected(self) -> None:
        await self.receive(b"(connected)")

    async def until(self, condition: Callable[[list[bytes]], bool]) -> None:
        async with asyncio.timeout(30), self._noted:
            await self._noted.wait_for(lambda: condition(self.received))


@asynccontextmanager
async def subscribed(redis: Redis, channel: str, listener: Listener) -> AsyncIterator[Subscription]:
    subscription = redis.subscribe(channel, listener.receive, listener.connected)
    await subscription.start()
    try:
        yield subscription
    finally:
        async with asyncio.timeout(30):
            await subscription.stop()


async def test_messages_are_received_and_a_failing_one_does_not_end_the_subscription(redis: Redis) -> None:
    channel, listener = new_id("test_"), Listener()
    async with subscribed(redis, channel, listener):
        await listener.until(lambda received: received == [b"(connected)"])
        for message in (b"1", b"bad", b"2"):
            await redis.publish(channel, message)
        await listener.until(lambda received: received == [b"(connected)", b"1", b"2"])


@pytest.mark.parametrize("how", ["cut", "frozen"])
async def test_a_subscription_recovers(redis: Redis, wire: TcpProxy, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "PING_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(pooled, "CONNECT_TIMEOUT_SECONDS", 0.1)
    channel, listener = new_id("test_"), Listener()
    async with subscribed(redis, channel, listener):
        await listener.until(lambda received: received == [b"(connected)"])
        if how == "cut":
            await wire.cut()
        else:
            wire.freeze()
            await asyncio.sleep(0.5)
        await wire.mend()
        await listener.until(lambda received: received == [b"(connected)"] * 2)
        await until_answered(redis)
        await redis.publish(channel, b"1")
        await listener.until(lambda received: received[-1] == b"1")


async def test_a_subscription_starts_and_stops_while_redis_is_down(redis: Redis, wire: TcpProxy) -> None:
    await wire.cut()
    listener = Listener()
    async with subscribed(redis, new_id("test_"), listener):
        await asyncio.sleep(0)

    assert listener.received == []


async def run(redis: Redis, *command: str) -> None:
    await redis.client.execute_command(*command)  # type: ignore[no-untyped-call]


@asynccontextmanager
async def acl_user(*rules: str) -> AsyncIterator[tuple[RedisSection, Redis]]:
    """A user of Redis with `rules`: its settings, and a client with all rights to change them."""
    parts = urlsplit(os.environ["ARGOSY_REDIS_URL"])
    name, password = new_id("user_"), new_id("secret_")
    async with Redis(RedisSection(url=os.environ["ARGOSY_REDIS_URL"])) as admin:
        await run(admin, "ACL", "SETUSER", name, "on", f">{password}", *rules)
        try:
            url = f"redis://{name}:{password}@{parts.hostname}:{parts.port}/0"
            yield RedisSection(url=url), admin
        finally:
            await run(admin, "ACL", "DELUSER", name)


async def test_a_refusal_to_publish_is_unavailable_with_the_reason_of_redis() -> None:
    async with acl_user("~*", "+@all", "resetchannels") as (section, _), Redis(section) as redis:
        await redis.ping()

        with pytest.raises(Unavailable, match="no permissions to access"):
            await redis.publish("argosy.test", b"")


async def test_a_subscription_that_is_refused_goes_on_and_logs_the_reason_of_redis() -> None:
    received: list[bytes] = []

    async def keep(message: bytes) -> None:
        received.append(message)

    async with acl_user("~*", "+@all", "resetchannels") as (section, admin), Redis(section) as redis:
        user = urlsplit(section.url).username or ""
        subscribed = redis.subscribe("argosy.test", keep)
        with captured_lines() as lines:
            await subscribed.start()
            await until(lambda: not subscribed._connection_log.connected)
            assert not subscribed.failed.done()
            await run(admin, "ACL", "SETUSER", user, "allchannels")
            async with asyncio.timeout(30):
                while not received:
                    await redis.publish("argosy.test", b"granted")
                    await asyncio.sleep(0.05)
            # Withdrawn again while it runs: Redis then closes the connection.
            await run(admin, "ACL", "SETUSER", user, "resetchannels")
            await until(lambda: not subscribed._connection_log.connected)
            assert not subscribed.failed.done()
            await subscribed.stop()

    lost = [line["error"].lower() for line in lines if line["event"] == "redis_subscription_lost"]
    assert "permissions" in lost[0]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_command_timeout_does_not_bound_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiplexed, "TIMEOUT_SECONDS", 1)
    monkeypatch.setattr(multiplexed, "CONNECT_TIMEOUT_SECONDS", 30)
    port = urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379

    async def accept_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # As a TLS handshake, or a login, that takes longer than a command may.
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            far_writer.write(await reader.read(65536))
            await asyncio.sleep(1.5)
            writer.write(await far_reader.read(65536))
            while data := await reader.read(65536):
                far_writer.write(data)
                writer.write(await far_reader.read(65536))
        except OSError:
            pass
        finally:
            far_writer.transport.abort()
            writer.transport.abort()
            closed.set()

    closed = asyncio.Event()
    server = await asyncio.start_server(accept_slowly, "127.0.0.1", 0)
    section = RedisSection(url=f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    async with server:
        async with MultiplexedRedis(section) as redis:
            await redis.ping()
        await closed.wait()


async def test_connecting_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "CONNECT_TIMEOUT_SECONDS", 0.2)

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            await reader.read()
        writer.transport.abort()

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    section = RedisSection(url=f"rediss://127.0.0.1:{server.sockets[0].getsockname()[1]}/0")
    async with server, Redis(section) as redis, asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await redis.ping()
