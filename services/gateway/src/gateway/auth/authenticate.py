"""Verify API keys through a cache of verified keys, and of keys that were rejected.

A verified key is trusted for `ttl` while the revocation channel is up, for `ttl_degraded` while it is down, and for
`max_stale` while the database does not answer. An unknown key is then Unavailable, never rejected.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from math import inf

from cachetools import LRUCache
from chassis.clock import Clock
from chassis.errors import ArgosyError, Unavailable
from chassis.tenancy import Principal

from gateway.auth.api_key import ApiKey, InvalidApiKey, KeyExpired, KeyRevoked, MissingApiKey, ParsedKey, parse_key

FindKey = Callable[[str], Awaitable[ApiKey | None]]
"""Reads the record of a key id, with its tenant's plan. Raises Unavailable."""


@dataclass(frozen=True, slots=True)
class KeyCacheTtls:
    """How long entries are trusted, and how many are kept of each sort."""

    ttl: timedelta
    ttl_degraded: timedelta
    max_stale: timedelta
    negative_ttl: timedelta
    size: int


@dataclass(slots=True)
class _Verified:
    principal: Principal
    verified_at: float
    expires_at: float
    channel_epoch: int


@dataclass(slots=True)
class _Rejected:
    error: type[ArgosyError]
    message: str
    until: float


class _VerifiedKeys(LRUCache[bytes, _Verified]):
    """Keeps the index by key id in step with what is evicted: a key that the index misses could not be invalidated."""

    def __init__(self, maxsize: int) -> None:
        super().__init__(maxsize)
        self.digests: dict[str, bytes] = {}

    def popitem(self) -> tuple[bytes, _Verified]:
        digest, evicted = super().popitem()
        self.digests.pop(evicted.principal.key_id, None)
        return digest, evicted


class KeyCache:
    """Used on the event loop alone. `now` is a monotonic time in seconds.

    Entries are found by digest: the key's text is not kept, and the time to look up a SHA-256 reveals nothing of it.
    """

    def __init__(self, ttls: KeyCacheTtls) -> None:
        self._ttl_healthy = ttls.ttl.total_seconds()
        self._ttl_degraded = self._ttl = ttls.ttl_degraded.total_seconds()
        self._max_stale = ttls.max_stale.total_seconds()
        self._negative_ttl = ttls.negative_ttl.total_seconds()
        self._verified = _VerifiedKeys(ttls.size)
        self._rejected: LRUCache[bytes, _Rejected] = LRUCache(ttls.size)
        self._serve_stale_until = 0.0
        self._channel_epoch = 0
        self.generation = 0
        """Changes with each invalidation."""

    def __len__(self) -> int:
        return len(self._verified) + len(self._rejected)

    def get(self, digest: bytes, now: float) -> Principal | None:
        """Return a trusted entry, or None when the key has to be looked up."""
        entry = self._verified.get(digest)
        if entry is None:
            return None
        age = now - entry.verified_at
        fresh = age < self._ttl and entry.channel_epoch == self._channel_epoch
        if now < entry.expires_at and (fresh or (now < self._serve_stale_until and age < self._max_stale)):
            return entry.principal
        return None

    def get_stale(self, digest: bytes, now: float) -> Principal | None:
        """Return an entry that may be used while the database does not answer."""
        entry = self._verified.get(digest)
        if entry is None or now - entry.verified_at >= self._max_stale or now >= entry.expires_at:
            return None
        return entry.principal

    def serve_stale(self, until: float) -> None:
        """Let `get` return stale entries for a while: the database just did not answer."""
        self._serve_stale_until = until

    def raise_rejected(self, digest: bytes, now: float) -> None:
        """Raise the error that this key was rejected with less than `negative_ttl` ago, if it was."""
        rejected = self._rejected.get(digest)
        if rejected is not None and now < rejected.until:
            raise rejected.error(rejected.message)

    def put(self, digest: bytes, principal: Principal, now: float, expires_at: float) -> None:
        self._rejected.pop(digest, None)
        self._verified[digest] = _Verified(principal, now, expires_at, self._channel_epoch)
        self._verified.digests[principal.key_id] = digest

    def put_rejected(self, key_id: str, digest: bytes, error: ArgosyError, now: float) -> None:
        """Keep a key that was rejected now, and drop its verified entry."""
        if self._verified.digests.get(key_id) == digest:
            self._verified.pop(digest, None)
        self._rejected[digest] = _Rejected(type(error), error.message, now + self._negative_ttl)

    def invalidate(self, key_id: str) -> None:
        self.generation += 1
        digest = self._verified.digests.pop(key_id, None)
        if digest is not None:
            self._verified.pop(digest, None)
            self._rejected.pop(digest, None)

    def set_channel_healthy(self, healthy: bool) -> None:
        """Choose the TTL. When the channel is back, revocations may have been missed: every entry is checked again."""
        if healthy:
            self.generation += 1
            self._channel_epoch += 1
            self._rejected.clear()
        self._ttl = self._ttl_healthy if healthy else self._ttl_degraded


class ApiKeyAuthenticator:
    """One per process; every method is called on the event loop."""

    def __init__(self, find_key: FindKey, clock: Clock, ttls: KeyCacheTtls, lookup_timeout: timedelta) -> None:
        self._find_key = find_key
        self._clock = clock
        self._cache = KeyCache(ttls)
        self._lookup_timeout_seconds = lookup_timeout.total_seconds()
        self._lookups: dict[bytes, asyncio.Task[Principal]] = {}

    def get_cached(self, key: bytes) -> Principal | None:
        """Return the principal of a key in the cache; None when the key has to be looked up."""
        return self._cache.get(hashlib.sha256(key).digest(), self._clock.monotonic())

    def was_verified(self, key: bytes) -> bool:
        """Whether the key was valid within `max_stale`, and no revocation of it was received since."""
        return self._cache.get_stale(hashlib.sha256(key).digest(), self._clock.monotonic()) is not None

    async def authenticate(self, key: bytes) -> Principal:
        """Look a key up. Raises MissingApiKey, InvalidApiKey, KeyRevoked, KeyExpired, or Unavailable when it cannot
        be checked."""
        if not key:
            raise MissingApiKey("You didn't provide an API key: send it as 'Authorization: Bearer argosy_...'.")
        digest = hashlib.sha256(key).digest()
        self._cache.raise_rejected(digest, self._clock.monotonic())
        parsed = parse_key(key)
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = self._lookups[digest] = asyncio.create_task(self._look_up(parsed))
            lookup.add_done_callback(lambda done: self._lookup_done(digest, done))
        # Requests with the same key share a lookup: one that is cancelled must not cancel it for the others.
        return await asyncio.shield(lookup)

    def invalidate(self, key_id: str) -> None:
        """Look this key up at its next use: it was revoked."""
        self._cache.invalidate(key_id)

    def set_channel_healthy(self, healthy: bool) -> None:
        """Report whether revocations are received from now on."""
        self._cache.set_channel_healthy(healthy)

    def _lookup_done(self, digest: bytes, done: asyncio.Task[Principal]) -> None:
        del self._lookups[digest]
        if not done.cancelled():
            done.exception()  # asyncio would log it as never retrieved if all requests were cancelled

    async def _look_up(self, key: ParsedKey) -> Principal:
        generation = self._cache.generation
        try:
            async with asyncio.timeout(self._lookup_timeout_seconds):
                record = await self._find_key(key.key_id)
        except (Unavailable, TimeoutError):
            return self._serve_stale(key)
        now = self._clock.monotonic()
        try:
            record = self._verify(key, record)
        except ArgosyError as error:
            self._cache.put_rejected(key.key_id, key.sha256, error, now)
            raise
        principal = _to_principal(record)
        # A revocation received during the lookup may not be in the record: accept the request, and do not cache it.
        if generation == self._cache.generation:
            valid_seconds = (record.expires_at - self._clock.now()).total_seconds() if record.expires_at else inf
            self._cache.put(key.sha256, principal, now, now + valid_seconds)
        return principal

    def _verify(self, key: ParsedKey, record: ApiKey | None) -> ApiKey:
        if record is None or not hmac.compare_digest(record.sha256, key.sha256):
            raise InvalidApiKey("Incorrect API key provided: there is no such key.")
        if record.revoked_at is not None:
            raise KeyRevoked("This API key was revoked.")
        if record.expires_at is not None and record.expires_at <= self._clock.now():
            raise KeyExpired("This API key has expired.")
        return record

    def _serve_stale(self, key: ParsedKey) -> Principal:
        now = self._clock.monotonic()
        principal = self._cache.get_stale(key.sha256, now)
        if principal is None:
            raise Unavailable("The API key cannot be checked right now; try again.", retry_after=timedelta(seconds=1))
        self._cache.serve_stale(now + self._lookup_timeout_seconds)
        return principal


def _to_principal(record: ApiKey) -> Principal:
    return Principal(
        tenant_id=record.tenant_id,
        project_id=record.project_id,
        key_id=record.key_id,
        roles=record.roles,
        plan=record.plan,
    )
