"""Verify API keys through a cache.

When the database does not answer, a key that was verified before stays valid for `max_stale`; an unknown key is
Unavailable, never rejected.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from datetime import timedelta
from math import inf

from chassis.clock import Clock
from chassis.errors import ArgosyError, Unavailable
from chassis.tenancy import Principal

from gateway.auth.api_key import ApiKey, InvalidApiKey, KeyExpired, KeyRevoked, MissingApiKey, ParsedKey, parse_key
from gateway.auth.cache import KeyCache, KeyCacheTtls

FindKey = Callable[[str], Awaitable[ApiKey | None]]
"""Reads the record of a key id, with its tenant's plan. Raises Unavailable."""


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
