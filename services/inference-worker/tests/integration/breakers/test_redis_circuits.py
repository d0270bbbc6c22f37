"""Two replicas share circuits by a real Redis, behind a proxy that can be cut."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.redis import Redis, pooled
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from inference_worker.breakers.circuit import Circuit
from inference_worker.breakers.circuits import Circuits
from inference_worker.breakers.counts import Ticket
from inference_worker.breakers.model import CircuitPolicy, CircuitState
from inference_worker.breakers.redis import CIRCUITS_CHANNEL, PROBE_PREFIX, RedisExchange
from inference_worker.breakers.schedule import CircuitSharing

TENANT = "ten_a"
POLICY = CircuitPolicy(open_for=0.5, max_open_for=120.0, probe_timeout=30.0, grant_timeout=60.0)
"""Long, so that nothing passes by time alone while the machine is busy."""


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TcpProxy]:
    # 50 ms can pass on a busy test machine without any fault of Redis.
    monkeypatch.setattr(pooled, "TIMEOUT_SECONDS", 10)
    async with TcpProxy(urlsplit(os.environ["ARGOSY_REDIS_URL"]).port or 6379) as wire:
        yield wire


@pytest.fixture
def model() -> str:
    """Other tests use the same Redis."""
    return new_id("model_")


@asynccontextmanager
async def a_redis(wire: TcpProxy) -> AsyncIterator[Redis]:
    async with Redis(RedisSection(url=f"redis://127.0.0.1:{wire.port}/0")) as redis:
        yield redis


@asynccontextmanager
async def a_replica(wire: TcpProxy) -> AsyncIterator[Circuits]:
    """The circuits of a replica that shares them until the block ends; it begins when it hears the others."""
    circuits, replica, stop, connected = Circuits(POLICY), new_id("worker_"), asyncio.Event(), asyncio.Event()
    async with a_redis(wire) as redis:
        sharing = CircuitSharing(circuits, RedisExchange(redis, replica), replica, time.monotonic)

        async def on_connect() -> None:
            await sharing.connected()
            connected.set()

        subscription = redis.subscribe(CIRCUITS_CHANNEL, sharing.receive, on_connect)
        await subscription.start()
        running = asyncio.create_task(sharing.run(stop))
        try:
            async with asyncio.timeout(30):
                await connected.wait()
            yield circuits
        finally:
            stop.set()
            await running
            await subscription.stop()


def fail(circuit: Circuit, times: int = POLICY.failures_in_row) -> None:
    for _ in range(times):
        circuit.failed(time.monotonic(), a_ticket())


def a_ticket() -> Ticket:
    return Ticket(time.monotonic(), TENANT)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


async def test_what_one_replica_opens_and_closes_the_other_opens_and_closes(wire: TcpProxy, model: str) -> None:
    async with a_replica(wire) as first, a_replica(wire) as second:
        one, other = (replica.circuit("u", "c", model) for replica in (first, second))
        fail(one)
        await until(lambda: other.state is CircuitState.OPEN)
        one.close(time.monotonic())
        await until(lambda: other.state is CircuitState.CLOSED)

        assert other.admit(time.monotonic(), TENANT) is not None


async def test_failures_of_both_replicas_count_together(wire: TcpProxy, model: str) -> None:
    async with a_replica(wire) as first, a_replica(wire) as second:
        one, other = (replica.circuit("u", "c", model) for replica in (first, second))
        fail(one, POLICY.failures_in_row - 2)
        fail(other, 2)
        await until(lambda: one.state is CircuitState.OPEN and other.state is CircuitState.OPEN)

        assert one.open_for == other.open_for == TENANT


async def test_one_of_two_replicas_makes_the_probe(wire: TcpProxy, model: str) -> None:
    async with a_replica(wire) as first, a_replica(wire) as second:
        circuits = [replica.circuit("u", "c", model) for replica in (first, second)]
        fail(circuits[0])
        await until(lambda: all(one.state is CircuitState.OPEN for one in circuits))
        admitted: list[tuple[Circuit, Ticket]] = []

        def ask() -> bool:
            tickets = [(one, one.admit(time.monotonic(), TENANT)) for one in circuits]
            admitted.extend((one, ticket) for one, ticket in tickets if ticket is not None)
            return bool(admitted)

        await until(ask)
        for _ in range(20):  # looks of the other replica
            await asyncio.sleep(0.05)
            ask()

        ((prober, probe),) = admitted
        prober.succeeded(time.monotonic(), probe)
        await until(lambda: all(one.state is CircuitState.CLOSED for one in circuits))


async def test_a_refused_credential_rests_on_all_replicas_for_all_models(wire: TcpProxy, model: str) -> None:
    async with a_replica(wire) as first, a_replica(wire) as second:
        first.circuit("u", model, "a").account_refused(time.monotonic(), a_ticket())
        other = second.circuit("u", model, "b")
        await until(lambda: other.block(time.monotonic(), TENANT) is not None)


async def test_a_replica_that_starts_later_learns_what_is_open(wire: TcpProxy, model: str) -> None:
    async with a_replica(wire) as first:
        fail(first.circuit("u", "c", model))
        async with a_replica(wire) as second:
            await until(lambda: second.circuit("u", "c", model).state is CircuitState.OPEN)


async def test_while_redis_is_away_each_replica_is_alone_and_when_it_is_back_they_tell_each_other(
    wire: TcpProxy, model: str
) -> None:
    async with a_replica(wire) as first, a_replica(wire) as second:
        one, other = (replica.circuit("u", "c", model) for replica in (first, second))
        await until(lambda: first.needs_grant and second.needs_grant)
        await wire.cut()
        await until(lambda: not first.needs_grant and not second.needs_grant)
        one.rate_limited(time.monotonic(), 60.0, a_ticket())
        assert other.admit(time.monotonic(), TENANT) is not None
        await wire.mend()
        await until(lambda: other.block(time.monotonic(), TENANT) is not None)


async def test_what_redis_refuses_leaves_a_replica_alone_and_running(wire: TcpProxy, model: str) -> None:
    async with a_redis(wire) as redis:
        exchange = RedisExchange(redis, "worker_a")
        # A value of another type: the reply is an error, as NOPERM or OOM is.
        await redis.client.rpush(PROBE_PREFIX + model, b"1")
        assert await exchange.claim(model, 1.0) is False
        with pytest.raises(Unavailable, match="refuses to share circuits"):
            await exchange.claim(model + "x", float("1e16"))
        await exchange.release(model)
