"""A connection that all share, against a peer that answers as a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from chassis.aio import Backoff
from chassis.circuit_breaker import CircuitBreaker
from chassis.errors import Unavailable
from chassis.redis import MultiplexedRedis, Script, multiplexed, pooled
from chassis.settings import RedisSection
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.logs import captured_lines
from redis.exceptions import ResponseError

PONG = b"+PONG\r\n"


class Peer:
    """Accepts connections, handles the greeting, records each read, and sends what the test sets."""

    def __init__(self) -> None:
        self.reads: asyncio.Queue[bytes] = asyncio.Queue()
        self.port = 0
        self.connections = 0
        self.answer: Callable[[bytes], bytes] = lambda _: b""
        self._writers: list[asyncio.StreamWriter] = []

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def send(self, data: bytes) -> None:
        self._writers[-1].write(data)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            await reader.readexactly(len(b"*1\r\n$4\r\nPING\r\n"))
            writer.write(PONG)
            while data := await reader.read(1 << 20):
                self.reads.put_nowait(data)
                writer.write(self.answer(data))
        except (OSError, asyncio.IncompleteReadError):
            pass


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    peer.port = await peer.start()
    yield peer
    await peer.stop()


@pytest.fixture
async def redis(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedRedis]:
    """It waits for replies for as long as a test may take."""
    monkeypatch.setattr(multiplexed, "TIMEOUT_SECONDS", 60)
    async with connected(peer) as redis:
        yield redis


@pytest.fixture
async def hurried_redis(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MultiplexedRedis]:
    """Its commands time out; the connection stays."""
    monkeypatch.setattr(multiplexed, "UNRESPONSIVE_SECONDS", 60)
    async with connected(peer) as redis:
        yield redis


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[MultiplexedRedis]:
    section = RedisSection(url=f"redis://127.0.0.1:{peer.port}/0")
    async with MultiplexedRedis(section, CircuitBreaker("peer", max_failures=3, open_seconds=60)) as redis:
        yield redis


async def test_commands_of_one_turn_are_sent_together_and_get_their_replies_in_order(
    peer: Peer, redis: MultiplexedRedis
) -> None:
    peer.answer = lambda _: b":1\r\n$2\r\nab\r\n*2\r\n:1\r\n$-1\r\n"
    answers = await asyncio.gather(redis.send("A"), redis.send("B", b"\xff", 7), redis.send("C"))

    assert list(answers) == [1, b"ab", [1, None]]
    assert await peer.reads.get() == b"*1\r\n$1\r\nA\r\n*3\r\n$1\r\nB\r\n$1\r\n\xff\r\n$1\r\n7\r\n*1\r\n$1\r\nC\r\n"
    assert peer.reads.empty()


async def test_a_reply_in_pieces_is_assembled(peer: Peer, redis: MultiplexedRedis) -> None:
    waiting = redis.send("A")
    await peer.reads.get()
    for piece in (b"$", b"4\r\nab", b"cd\r", b"\n"):
        peer.send(piece)
        await asyncio.sleep(0.001)

    assert await waiting == b"abcd"


async def test_an_error_is_for_the_command_that_made_it(peer: Peer, redis: MultiplexedRedis) -> None:
    peer.answer = lambda _: b":1\r\n-ERR wrong\r\n:3\r\n"
    first, second, third = redis.send("A"), redis.send("B"), redis.send("C")

    with pytest.raises(ResponseError, match="wrong"):
        await second
    assert (await first, await third) == (1, 3)
    assert not redis.breaker.open


IN_SCRIPT = b"-ERR Error running script (call to f_ab12): @user_script:21: @user_script: 21: -"


@pytest.mark.parametrize(
    "reply", [b"-LOADING later\r\n", b"-READONLY a replica\r\n", b"-OOM full\r\n", IN_SCRIPT + b"OOM full\r\n"]
)
async def test_what_cannot_be_done_now_is_unavailable(peer: Peer, redis: MultiplexedRedis, reply: bytes) -> None:
    peer.answer = lambda _: reply
    with pytest.raises(Unavailable):
        await redis.send("A")


@pytest.mark.parametrize("reply", [b"-READONLY a replica\r\n", IN_SCRIPT + b"READONLY a replica\r\n"])
async def test_a_connection_to_a_read_only_replica_is_closed(peer: Peer, redis: MultiplexedRedis, reply: bytes) -> None:
    peer.answer = lambda _: reply
    with pytest.raises(Unavailable):
        await redis.run(Script("return 1"), ["key"], [1])

    async with asyncio.timeout(30):
        while peer.connections < 2:
            await asyncio.sleep(0.01)


async def test_the_error_of_a_script_has_its_place(peer: Peer, redis: MultiplexedRedis) -> None:
    peer.answer = lambda _: IN_SCRIPT + b"WRONGTYPE not a number\r\n"
    with pytest.raises(ResponseError, match="21: -WRONGTYPE"):
        await redis.run(Script("return 1"), ["key"], [1])


async def test_a_cancelled_command_does_not_take_the_reply_of_the_next(peer: Peer, redis: MultiplexedRedis) -> None:
    first, second = redis.send("A"), redis.send("B")
    first.cancel()
    peer.answer = lambda _: b":1\r\n:2\r\n"

    assert await second == 2


async def test_a_late_reply_is_dropped(peer: Peer, hurried_redis: MultiplexedRedis) -> None:
    redis = hurried_redis
    late = redis.send("A")
    with pytest.raises(Unavailable, match="in time"):
        await late
    await peer.reads.get()
    assert redis._connection is not None
    redis._connection.set_timeout(60)
    next_one = redis.send("B")
    await peer.reads.get()
    peer.send(b":1\r\n:2\r\n")

    assert await next_one == 2
    assert peer.connections == 1


async def test_late_replies_open_the_breaker(peer: Peer, hurried_redis: MultiplexedRedis) -> None:
    redis = hurried_redis
    for _ in range(3):
        waiting = redis.send("A")
        with pytest.raises(Unavailable):
            await waiting
        peer.send(b":1\r\n")
        await asyncio.sleep(0.005)

    assert redis.breaker.open
    with pytest.raises(Unavailable):
        redis.send("A")


async def test_an_opening_breaker_is_logged_without_a_request(hurried_redis: MultiplexedRedis) -> None:
    with captured_lines() as lines, as_caller(a_caller()):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await hurried_redis.send("A")

    (opened,) = [line for line in lines if line["event"] == "circuit_opened"]
    assert "request_id" not in opened


async def test_many_that_wait_are_one_failure(peer: Peer, hurried_redis: MultiplexedRedis) -> None:
    redis = hurried_redis
    answers = await asyncio.gather(*(redis.send("A") for _ in range(50)), return_exceptions=True)

    assert {type(answer) for answer in answers} == {Unavailable}
    assert not redis.breaker.open


async def test_a_connection_that_ends_fails_what_waits_and_comes_back(peer: Peer, redis: MultiplexedRedis) -> None:
    waiting = redis.send("A")
    await peer.reads.get()
    peer.cut()
    with pytest.raises(Unavailable, match="closed"):
        await waiting
    with pytest.raises(Unavailable, match="not connected"):
        await redis.ping()
    peer.answer = lambda _: PONG

    async with asyncio.timeout(30):
        await until_answered(redis)
    assert peer.connections == 2


async def test_a_connection_that_is_silent_is_given_up(
    peer: Peer, hurried_redis: MultiplexedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = hurried_redis
    monkeypatch.setattr(multiplexed, "TIMEOUT_SECONDS", 60)  # of the next connection
    monkeypatch.setattr(multiplexed, "UNRESPONSIVE_SECONDS", 0.02)
    with pytest.raises(Unavailable):
        await redis.send("A")
    peer.answer = lambda _: PONG

    async with asyncio.timeout(30):
        while peer.connections < 2:
            await asyncio.sleep(0.01)
        await until_answered(redis)


@pytest.mark.parametrize("reply", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b":1\r\n:2\r\n"])
async def test_an_unexpected_reply_closes_the_connection(peer: Peer, redis: MultiplexedRedis, reply: bytes) -> None:
    peer.answer = lambda data: reply if b"A" in data else PONG
    await asyncio.gather(redis.send("A"), return_exceptions=True)

    async with asyncio.timeout(30):
        while peer.connections < 2:
            await asyncio.sleep(0.01)
        await until_answered(redis)


async def test_more_commands_than_are_allowed_in_flight_are_refused(
    hurried_redis: MultiplexedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = hurried_redis
    monkeypatch.setattr(multiplexed, "MAX_IN_FLIGHT", 2)
    sent = [redis.send("A"), redis.send("A")]
    with pytest.raises(Unavailable, match="keep up"):
        redis.send("A")
    await asyncio.gather(*sent, return_exceptions=True)


async def test_a_script_that_redis_does_not_know_is_sent_once(peer: Peer, redis: MultiplexedRedis) -> None:
    script = Script("return 1")
    peer.answer = lambda data: b":1\r\n" if b"EVAL\r\n" in data else b"-NOSCRIPT no\r\n"

    assert await redis.run(script, ["key"], [1]) == 1
    assert script.digest.encode() in await peer.reads.get()
    assert b"return 1" in await peer.reads.get()


async def test_connections_that_end_soon_are_made_less_and_less_often(
    peer: Peer, redis: MultiplexedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    monkeypatch.setattr(multiplexed, "MAX_RETRY_SECONDS", 60.0)  # a connection that ends earlier ended soon

    def note(backoff: Backoff) -> float:
        failures.append(backoff.failures)
        backoff.failures += 1
        return 0.0

    monkeypatch.setattr(Backoff, "next", note)
    async with asyncio.timeout(30):
        await until(lambda: len(failures) == 3, peer.cut)
        monkeypatch.setattr(multiplexed, "MAX_RETRY_SECONDS", 0.0)
        await until(lambda: 0 in failures[3:], peer.cut)

    assert failures[:3] == [0, 1, 2]


async def test_an_unresolvable_address_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with MultiplexedRedis(RedisSection(url=f"redis://{'x' * 64}:1/0")) as redis:
        await asyncio.sleep(0.01)
        assert not redis._task.done()
        with pytest.raises(Unavailable, match="not connected"):
            await redis.ping()


async def test_it_opens_while_redis_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiplexed, "CONNECT_TIMEOUT_SECONDS", 0.1)
    async with MultiplexedRedis(RedisSection(url="redis://127.0.0.1:1/0")) as redis:
        with pytest.raises(Unavailable, match="not connected"):
            await redis.ping()


async def test_closing_it_ends_what_waits(peer: Peer) -> None:
    section = RedisSection(url=f"redis://127.0.0.1:{peer.port}/0")
    async with MultiplexedRedis(section) as redis:
        waiting = redis.send("A")
    with pytest.raises(Unavailable):
        await waiting
    with pytest.raises(Unavailable):
        await redis.ping()


def test_the_timeout_is_50_ms() -> None:
    assert (multiplexed.TIMEOUT_SECONDS, pooled.TIMEOUT_SECONDS) == (0.05, 0.05)


async def until(true: Callable[[], bool], do: Callable[[], None]) -> None:
    while not true():
        do()
        await asyncio.sleep(0.005)


async def until_answered(redis: MultiplexedRedis) -> None:
    while True:
        try:
            return await redis.ping()
        except Unavailable:
            await asyncio.sleep(0.01)
