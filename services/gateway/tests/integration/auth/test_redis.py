"""Revocations over a real Redis: effective on every gateway, whatever happens to Redis."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
from chassis.clock import SystemClock
from chassis.ids import new_id
from chassis.redis import Redis, pooled
from chassis.settings import RedisSection
from chassis.testing.network import TcpProxy
from gateway.api_keys.bootstrap import Bootstrap
from gateway.audit.model import AuditEntry
from gateway.auth import redis as adapter
from gateway.auth.api_key import ApiKey, KeyRevoked, mint_key
from gateway.auth.authenticate import ApiKeyAuthenticator
from gateway.auth.redis import RedisRevocations

from services.gateway.tests.fakes.api_keys import ttls
from services.gateway.tests.fakes.identity_store import FakeIdentityStore

TTLS = ttls(ttl=timedelta(hours=1), ttl_degraded=timedelta(milliseconds=250))
NEVER = timedelta(hours=1)
"""Longer than any test: on a busy machine a heartbeat may be late without any fault of Redis."""
CHANNEL_TIMEOUT = timedelta(milliseconds=600)


def redis_url(port: int | None = None) -> str:
    """The URL of Redis, or of a proxy to it."""
    parts = urlsplit(os.environ["ARGOSY_REDIS_URL"])
    if port is None:
        return os.environ["ARGOSY_REDIS_URL"]
    credentials = parts.netloc.rpartition("@")[0]
    return urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"))


class Gateway:
    """The part of a gateway that authenticates and revokes."""

    def __init__(self, store: FakeIdentityStore, redis: Redis, channel_timeout: timedelta) -> None:
        self.store = store
        self.authenticator = ApiKeyAuthenticator(store.find_key, SystemClock(), TTLS, timedelta(seconds=30))
        self.health: list[bool] = []
        self.revocations = RedisRevocations(
            redis,
            SystemClock(),
            invalidate=self.authenticator.invalidate,
            set_channel_healthy=self.set_channel_healthy,
            timeout=channel_timeout,
        )

    def set_channel_healthy(self, healthy: bool) -> None:
        self.health.append(healthy)
        self.authenticator.set_channel_healthy(healthy)

    async def accepts(self, text: str) -> bool:
        key = text.encode()
        try:
            return bool(self.authenticator.get_cached(key) or await self.authenticator.authenticate(key))
        except KeyRevoked:
            return False

    async def revoke(self, key: ApiKey) -> None:
        now = SystemClock().now()
        entry = AuditEntry(key.tenant_id, new_id("evt_"), "key.revoke", key.key_id, "", "", "", {}, now)
        await self.store.revoke_key(key.tenant_id, key.key_id, now, entry)
        await self.revocations.publish(key.key_id)


class Fleet:
    """Opens gateways over one store; what was opened last is closed first."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._store = FakeIdentityStore()

    async def proxy(self) -> TcpProxy:
        """A connection to Redis that can be cut."""
        return await self._stack.enter_async_context(TcpProxy(urlsplit(redis_url()).port or 6379))

    async def gateway(self, proxy: TcpProxy | None = None, channel_timeout: timedelta = NEVER) -> Gateway:
        """A gateway whose revocation channel is up; without heartbeats it counts as down after `channel_timeout`."""
        section = RedisSection(url=redis_url(proxy.port if proxy else None))
        with pytest.MonkeyPatch.context() as patient:
            if channel_timeout is NEVER:
                patient.setattr(pooled, "TIMEOUT_SECONDS", 30)  # else what it publishes is deferred on a busy machine
            redis = await self._stack.enter_async_context(Redis(section))
        gateway = Gateway(self._store, redis, channel_timeout)
        for component in gateway.revocations.components():
            await component.start()
            self._stack.push_async_callback(component.stop)
        await until(lambda: gateway.health[-1:] == [True])
        return gateway


@pytest.fixture(autouse=True)
def own_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel that no other test uses: heartbeats of other gateways would keep it up."""
    monkeypatch.setattr(adapter, "CHANNEL", new_id("test-"))


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as stack:
        yield Fleet(stack)


async def until(met: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not met():
            await asyncio.sleep(0.01)


async def until_rejected(gateway: Gateway, text: str) -> None:
    """The key is rejected, long before the TTL of a cached key ends."""
    async with asyncio.timeout(30):
        while await gateway.accepts(text):
            await asyncio.sleep(0.01)


async def a_key(gateway: Gateway) -> tuple[ApiKey, str]:
    _, text = mint_key("test")
    return await Bootstrap(gateway.store, gateway.store, gateway.store, SystemClock()).ensure(
        "demo", text, {"member"}
    ), text


async def test_a_key_revoked_on_one_gateway_is_rejected_by_all_without_polling(fleet: Fleet) -> None:
    gateways = [await fleet.gateway() for _ in range(3)]
    key, text = await a_key(gateways[0])
    assert all([await gateway.accepts(text) for gateway in gateways])
    lookups = gateways[0].store.lookups

    await gateways[0].revoke(key)

    for gateway in gateways:
        await until_rejected(gateway, text)
    assert gateways[0].store.lookups <= lookups + len(gateways)


@pytest.mark.parametrize("how", ["cut", "freeze"])
async def test_a_gateway_without_the_channel_looks_keys_up_again(fleet: Fleet, how: str) -> None:
    """How soon is the sum of two settings, which a unit test adds up."""
    proxy = await fleet.proxy()
    isolated, revoking = await fleet.gateway(proxy, CHANNEL_TIMEOUT), await fleet.gateway()
    key, text = await a_key(revoking)
    assert await isolated.accepts(text)

    if how == "cut":
        await proxy.cut()
    else:
        proxy.freeze()
    await revoking.revoke(key)

    await until_rejected(isolated, text)
    assert isolated.health[-1] is False


async def test_a_gateway_whose_channel_is_back_uses_its_cache_again(fleet: Fleet) -> None:
    proxy = await fleet.proxy()
    gateway = await fleet.gateway(proxy, 5 * CHANNEL_TIMEOUT)  # on a busy machine the channel is up for so long, too
    _, text = await a_key(gateway)
    await proxy.cut()
    await until(lambda: gateway.health[-1] is False)
    await proxy.mend()
    await until(lambda: gateway.health[-1] is True)
    await gateway.accepts(text)
    lookups = gateway.store.lookups

    await asyncio.sleep(2 * TTLS.ttl_degraded.total_seconds())
    assert await gateway.accepts(text)
    assert gateway.store.lookups == lookups


async def test_a_revocation_is_published_when_redis_is_back(fleet: Fleet) -> None:
    proxy = await fleet.proxy()
    cut_off, listener = await fleet.gateway(proxy, CHANNEL_TIMEOUT), await fleet.gateway()
    key, text = await a_key(cut_off)
    assert await listener.accepts(text)
    await proxy.cut()

    await cut_off.revoke(key)
    assert not await cut_off.accepts(text)  # applied at once on this gateway
    assert await listener.accepts(text)  # its channel is up, but the revocation is not published

    await proxy.mend()
    await until_rejected(listener, text)


async def execute(redis: Redis, *command: str) -> None:
    await redis.client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_without_the_right_to_publish_the_channel_counts_as_down_and_the_gateway_goes_on() -> None:
    """Redis answers PUBLISH with an error: no store's answer ends the service."""
    parts = urlsplit(redis_url())
    name, password = new_id("user_"), new_id("secret_")
    health: list[bool] = []
    async with Redis(RedisSection(url=redis_url())) as admin:
        await execute(admin, "ACL", "SETUSER", name, "on", f">{password}", "~*", "+@all", "&*")
        section = RedisSection(url=f"redis://{name}:{password}@{parts.hostname}:{parts.port}/0")
        async with Redis(section) as redis:
            revocations = RedisRevocations(
                redis, SystemClock(), invalidate=lambda _: None, set_channel_healthy=health.append
            )
            components = revocations.components()
            for component in components:
                await component.start()
            async with asyncio.timeout(30):
                while health[-1:] != [True]:
                    await asyncio.sleep(0.02)
                await execute(admin, "ACL", "SETUSER", name, "-publish")
                while health[-1:] != [False]:
                    await asyncio.sleep(0.02)
                await revocations.publish("key_1")
                assert not any(component.failed.done() for component in components)  # type: ignore[attr-defined]
                await execute(admin, "ACL", "SETUSER", name, "+publish")
                while health[-1:] != [True]:
                    await asyncio.sleep(0.02)
            for component in components:
                await component.stop()
        await execute(admin, "ACL", "DELUSER", name)
