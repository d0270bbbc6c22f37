"""Revocations over a real Redis: heard by every gateway within a second, whatever happens to Redis."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.redis import Redis
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from gateway.adapters import redis as adapter
from gateway.adapters.redis import RedisRevocations
from gateway.domain.administration import Bootstrap
from gateway.domain.keys import ApiKey, KeyRevoked, mint_key
from gateway.domain.principals import Admission, Trust
from gateway.domain.tenants import AuditEntry

from services.gateway.tests.fakes.directory import FakeDirectory

TRUST = Trust(heard=timedelta(seconds=60), unheard=timedelta(milliseconds=250))


def redis_url(port: int | None = None) -> str:
    """Where Redis is, or where a wire to it is."""
    parts = urlsplit(os.environ["ARGOSY_REDIS_URL"])
    if port is None:
        return os.environ["ARGOSY_REDIS_URL"]
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"))


class Gateway:
    """The part of a gateway that admits and revokes."""

    def __init__(self, directory: FakeDirectory, redis: Redis) -> None:
        self.directory = directory
        self.admission = Admission(directory, SystemClock(), TRUST)
        self.heard: list[bool] = []
        self.revocations = RedisRevocations(redis, SystemClock(), forget=self.admission.forget, hear=self.hear)

    def hear(self, hearing: bool) -> None:
        self.heard.append(hearing)
        self.admission.hear(hearing)

    async def admits(self, text: str) -> bool:
        presented = text.encode()
        try:
            return bool(self.admission.recall(presented) or await self.admission.admit(presented))
        except KeyRevoked:
            return False

    async def revoke(self, key: ApiKey) -> None:
        now = SystemClock().now()
        entry = AuditEntry(key.tenant_id, new_id("evt_"), "key.revoke", key.key_id, "", "", "", {}, now)
        await self.directory.revoke_key(key.tenant_id, key.key_id, now, entry)
        await self.revocations.announce(key.key_id)


class Fleet:
    """Opens gateways over one directory; what was opened last is closed first."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._directory = FakeDirectory()

    async def wire(self) -> TcpProxy:
        """A wire to Redis that can be cut."""
        return await self._stack.enter_async_context(TcpProxy(urlsplit(redis_url()).port or 6379))

    async def gateway(self, wire: TcpProxy | None = None) -> Gateway:
        """A gateway that hears."""
        section = RedisSection(url=redis_url(wire.port if wire else None))
        gateway = Gateway(self._directory, await self._stack.enter_async_context(Redis(section)))
        for component in gateway.revocations.components():
            await component.start()
            self._stack.push_async_callback(component.stop)
        await until(lambda: gateway.heard[-1:] == [True])
        return gateway


@pytest.fixture
async def fleet(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Fleet]:
    """A fleet on a channel that no other test uses."""
    monkeypatch.setattr(adapter, "CHANNEL", new_id("test-"))
    async with AsyncExitStack() as stack:
        yield Fleet(stack)


async def until(met: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


async def refused_within(gateway: Gateway, text: str, seconds: float) -> None:
    """The key opens nothing after this time; a busy machine may add a little."""
    async with asyncio.timeout(seconds):
        while await gateway.admits(text):
            await asyncio.sleep(0.01)


async def a_key(gateway: Gateway) -> tuple[ApiKey, str]:
    _, text = mint_key("test")
    return await Bootstrap(gateway.directory, SystemClock()).ensure("demo", text, {"member"}), text


async def test_a_key_revoked_at_one_gateway_is_refused_at_all_within_a_second(fleet: Fleet) -> None:
    gateways = [await fleet.gateway() for _ in range(3)]
    key, text = await a_key(gateways[0])
    assert all([await gateway.admits(text) for gateway in gateways])
    looked_up = gateways[0].directory.look_ups

    await gateways[0].revoke(key)

    for gateway in gateways:
        await refused_within(gateway, text, 1)
    assert gateways[0].directory.look_ups <= looked_up + len(gateways)  # nobody polls


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_a_gateway_that_cannot_hear_checks_for_itself_within_a_second(fleet: Fleet, how: str) -> None:
    wire = await fleet.wire()
    deaf, teller = await fleet.gateway(wire), await fleet.gateway()
    key, text = await a_key(teller)
    assert await deaf.admits(text)

    if how == "cut":
        await wire.cut()
    else:
        wire.freeze()
    await teller.revoke(key)

    await refused_within(deaf, text, 1.3)
    assert deaf.heard[-1] is False


async def test_a_gateway_that_hears_again_trusts_its_memory_again(fleet: Fleet) -> None:
    wire = await fleet.wire()
    gateway = await fleet.gateway(wire)
    _, text = await a_key(gateway)
    await wire.cut()
    await until(lambda: gateway.heard[-1] is False)
    await wire.mend()
    await until(lambda: gateway.heard[-1] is True)
    await gateway.admits(text)
    looked_up = gateway.directory.look_ups

    await asyncio.sleep(0.6)
    assert await gateway.admits(text)
    assert gateway.directory.look_ups == looked_up


async def test_what_could_not_be_told_is_told_when_redis_is_back(fleet: Fleet) -> None:
    wire = await fleet.wire()
    cut_off, listener = await fleet.gateway(wire), await fleet.gateway()
    key, text = await a_key(cut_off)
    assert await listener.admits(text)
    await wire.cut()

    await cut_off.revoke(key)
    assert not await cut_off.admits(text)  # known at home at once
    assert await listener.admits(text)  # it hears others, but nobody could tell it

    await wire.mend()
    await refused_within(listener, text, 10)
