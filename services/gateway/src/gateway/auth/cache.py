"""A cache of verified API keys, and of keys that were rejected.

A verified key is trusted for `ttl` while the revocation channel is up, for `ttl_degraded` while it is down, and for
`max_stale` while the database does not answer.
"""

from dataclasses import dataclass
from datetime import timedelta

from cachetools import LRUCache
from chassis.errors import ArgosyError
from chassis.tenancy import Principal


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
