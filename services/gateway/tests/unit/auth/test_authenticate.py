"""Keys are cached, revoked at once, and never rejected because the database does not answer."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from chassis.testing import FakeClock, a_principal
from gateway.api_keys.bootstrap import Bootstrap
from gateway.audit.model import AuditEntry
from gateway.auth.api_key import ApiKey, InvalidApiKey, KeyExpired, KeyRevoked, format_key, mint_key, parse_key
from gateway.auth.authenticate import ApiKeyAuthenticator, FindKey, KeyCache, KeyCacheTtls

from services.gateway.tests.fakes.api_keys import TTLS, ttls
from services.gateway.tests.fakes.gateway import run_loop
from services.gateway.tests.fakes.identity_store import FakeIdentityStore

SMALL = ttls(size=3)
LOOKUP_TIMEOUT = timedelta(seconds=60)


class Setup:
    """An authenticator over a store with one valid key."""

    def __init__(self) -> None:
        self.clock, self.store = FakeClock(), FakeIdentityStore()
        self.authenticator = self.new_authenticator(self.store.find_key)
        self.authenticator.set_channel_healthy(True)
        _, text = mint_key("test")
        self.text, self.key = text.encode(), parse_key(text.encode())

    def new_authenticator(
        self, find_key: FindKey, cache: KeyCacheTtls = SMALL, lookup_timeout: timedelta = LOOKUP_TIMEOUT
    ) -> ApiKeyAuthenticator:
        return ApiKeyAuthenticator(find_key, self.clock, cache, lookup_timeout)

    async def bootstrap(self) -> "Setup":
        self.record = await Bootstrap(self.store, self.store, self.store, self.clock).ensure(
            "demo", self.text.decode(), {"member"}
        )
        self.store.lookups = 0
        return self

    async def authenticate(self, text: bytes | None = None) -> str:
        """The tenant of a key."""
        key = text or self.text
        principal = self.authenticator.get_cached(key) or await self.authenticator.authenticate(key)
        return principal.tenant_id

    async def revoke(self) -> None:
        entry = AuditEntry(self.record.tenant_id, "evt_1", "key.revoke", "", "", "", "", {}, self.clock.now())
        await self.store.revoke_key(self.record.tenant_id, self.key.key_id, self.clock.now(), entry)

    async def another(self, **fields: object) -> bytes:
        """One more key of the tenant."""
        minted, text = mint_key("test")
        made = replace(self.record, key_id=minted.key_id, sha256=minted.sha256, **fields)  # type: ignore[arg-type]
        entry = AuditEntry(made.tenant_id, f"evt_{made.key_id}", "key.create", "", "", "", "", {}, self.clock.now())
        await self.store.add_key(made, entry)
        return text.encode()


@pytest.fixture
async def setup() -> Setup:
    return await Setup().bootstrap()


async def test_a_key_gives_its_tenant_roles_and_plan(setup: Setup) -> None:
    principal = await setup.authenticator.authenticate(setup.text)

    assert principal.tenant_id == setup.record.tenant_id
    assert principal.project_id == setup.record.project_id
    assert principal.key_id == setup.key.key_id
    assert principal.roles == {"member"}
    assert principal.plan == "standard"


async def test_a_key_is_looked_up_once(setup: Setup) -> None:
    for _ in range(3):
        await setup.authenticate()
    assert setup.store.lookups == 1


async def test_requests_at_the_same_time_share_one_lookup(setup: Setup) -> None:
    await asyncio.gather(*(setup.authenticate() for _ in range(20)))
    assert setup.store.lookups == 1


async def test_a_cancelled_request_does_not_cancel_the_lookup_of_others(setup: Setup) -> None:
    first = asyncio.create_task(setup.authenticate())
    await asyncio.sleep(0)
    second = asyncio.create_task(setup.authenticate())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == setup.record.tenant_id


async def test_a_key_is_looked_up_again_after_its_ttl(setup: Setup) -> None:
    await setup.authenticate()
    setup.clock.advance(timedelta(seconds=29.9))
    await setup.authenticate()
    assert setup.store.lookups == 1
    setup.clock.advance(timedelta(seconds=0.2))
    await setup.authenticate()
    assert setup.store.lookups == 2


async def test_a_revoked_key_is_rejected_once_it_is_invalidated(setup: Setup) -> None:
    await setup.authenticate()
    await setup.revoke()
    await setup.authenticate()  # the revocation was not received yet

    setup.authenticator.invalidate(setup.key.key_id)

    with pytest.raises(KeyRevoked):
        await setup.authenticate()


async def test_while_the_channel_is_down_the_ttl_is_less_than_a_second(setup: Setup) -> None:
    await setup.authenticate()
    await setup.revoke()
    setup.authenticator.set_channel_healthy(False)

    setup.clock.advance(timedelta(seconds=0.6))

    with pytest.raises(KeyRevoked):
        await setup.authenticate()


async def test_all_keys_are_checked_again_when_the_channel_is_back(setup: Setup) -> None:
    await setup.authenticate()
    setup.authenticator.set_channel_healthy(False)
    await setup.revoke()

    setup.authenticator.set_channel_healthy(True)

    with pytest.raises(KeyRevoked):
        await setup.authenticate()


async def test_a_revocation_during_a_lookup_is_not_lost(setup: Setup) -> None:
    class SlowKeys:
        """Reads the record, then waits before it returns it."""

        release = asyncio.Event()

        async def find_key(self, key_id: str) -> ApiKey | None:
            found = await setup.store.find_key(key_id)
            await self.release.wait()
            return found

    slow = SlowKeys()
    authenticator = setup.new_authenticator(slow.find_key, TTLS)
    authenticator.set_channel_healthy(True)
    lookup = asyncio.create_task(authenticator.authenticate(setup.text))
    await run_loop()

    await setup.revoke()
    authenticator.invalidate(setup.key.key_id)
    slow.release.set()
    await lookup  # the key was valid when it was looked up

    assert authenticator.get_cached(setup.text) is None
    with pytest.raises(KeyRevoked):
        await authenticator.authenticate(setup.text)


async def test_a_malformed_key_never_reaches_the_database(setup: Setup) -> None:
    setup.store.down = True
    for text in (b"sk-123", setup.text[:-1] + (b"0" if setup.text[-1:] != b"0" else b"1"), b"\xff\x00"):
        with pytest.raises(InvalidApiKey):
            await setup.authenticate(text)


async def test_an_unknown_key_is_rejected_and_the_rejection_is_cached(setup: Setup) -> None:
    unknown = mint_key("test")[1].encode()
    for _ in range(3):
        with pytest.raises(InvalidApiKey):
            await setup.authenticate(unknown)
    assert setup.store.lookups == 1

    setup.clock.advance(timedelta(seconds=6))
    with pytest.raises(InvalidApiKey):
        await setup.authenticate(unknown)
    assert setup.store.lookups == 2


async def test_a_key_with_the_right_id_and_a_wrong_secret_is_rejected(setup: Setup) -> None:
    forged = format_key("test", setup.key.key_id, "0" * 32).encode()
    await setup.authenticate()

    with pytest.raises(InvalidApiKey):
        await setup.authenticate(forged)
    assert await setup.authenticate() == setup.record.tenant_id


async def test_an_expired_key_is_rejected_on_time(setup: Setup) -> None:
    text = await setup.another(expires_at=setup.clock.now() + timedelta(seconds=10))
    await setup.authenticate(text)
    setup.clock.advance(timedelta(seconds=9.9))
    await setup.authenticate(text)

    setup.clock.advance(timedelta(seconds=0.1))

    with pytest.raises(KeyExpired):
        await setup.authenticate(text)


async def test_while_the_database_is_down_verified_keys_are_accepted_and_unknown_keys_are_unavailable(
    setup: Setup,
) -> None:
    unknown = await setup.another()
    await setup.authenticate()
    setup.store.down = True
    setup.clock.advance(timedelta(minutes=5))

    assert await setup.authenticate() == setup.record.tenant_id
    with pytest.raises(Unavailable):
        await setup.authenticate(unknown)

    setup.clock.advance(timedelta(hours=1))
    with pytest.raises(Unavailable):
        await setup.authenticate()  # older than max_stale


async def test_a_database_that_is_down_is_not_queried_by_every_request(setup: Setup) -> None:
    await setup.authenticate()
    setup.store.down = True
    setup.clock.advance(timedelta(minutes=5))
    await setup.authenticate()

    assert setup.authenticator.get_cached(setup.text) is not None


async def test_a_revoked_key_is_not_accepted_while_the_database_is_down(setup: Setup) -> None:
    await setup.authenticate()
    await setup.revoke()
    setup.authenticator.invalidate(setup.key.key_id)
    setup.store.down = True

    with pytest.raises(Unavailable):
        await setup.authenticate()


async def test_a_lookup_has_a_timeout(setup: Setup) -> None:
    class SilentKeys:
        async def find_key(self, key_id: str) -> ApiKey | None:
            await asyncio.Event().wait()
            return None

    authenticator = setup.new_authenticator(SilentKeys().find_key, lookup_timeout=timedelta(milliseconds=50))
    with pytest.raises(Unavailable) as caught:
        await authenticator.authenticate(setup.text)
    assert caught.value.retry_after == timedelta(seconds=1)


async def test_the_cache_has_a_bound(setup: Setup) -> None:
    texts = [await setup.another() for _ in range(5)]
    for text in texts:
        await setup.authenticate(text)
    assert [setup.authenticator.get_cached(text) is not None for text in texts] == [False, False, True, True, True]

    unknowns = [mint_key("test")[1].encode() for _ in range(9)]
    for text in unknowns:
        with pytest.raises(InvalidApiKey):
            await setup.authenticate(text)
    assert setup.authenticator.get_cached(texts[-1]) is not None  # rejections do not evict verified keys


def test_rejections_are_bounded_too() -> None:
    cache = KeyCache(ttls(size=3))
    for number in range(9):
        cache.put_rejected(f"key_{number}", b"%d" % number, InvalidApiKey("unknown"), now=0)

    assert len(cache) == 3
    cache.raise_rejected(b"5", now=1)
    with pytest.raises(InvalidApiKey):
        cache.raise_rejected(b"6", now=1)


def test_a_key_that_was_evicted_and_put_again_can_be_invalidated() -> None:
    cache = KeyCache(ttls(size=1))
    for key_id in ("key_a", "key_b", "key_a"):
        cache.put(key_id.encode(), a_principal(key_id=key_id), now=0, expires_at=60)
    cache.invalidate("key_a")

    assert len(cache) == 0
