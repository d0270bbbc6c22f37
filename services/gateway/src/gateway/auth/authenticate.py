"""Who is calling: from a presented key to a principal, out of memory when possible.

Keys are looked up rarely and revoked at once. While revocations are heard, an identity is trusted for `heard`; while
they are not (Redis is down), only for `unheard`. When the database does not answer, an identity seen before goes on
for `stale`, and an unknown key is Unavailable, never refused.
"""

import asyncio
import hashlib
import hmac
from dataclasses import dataclass
from datetime import timedelta

from chassis.clock import Clock
from chassis.errors import ArgosyError, Unavailable
from chassis.tenancy import Principal

from .keys import ApiKey, InvalidApiKey, KeyExpired, KeyRevoked, Keys, PresentedKey, parse_key


@dataclass(frozen=True, slots=True)
class Trust:
    """For how long memory is believed, and how much of it there is."""

    heard: timedelta = timedelta(seconds=30)
    unheard: timedelta = timedelta(milliseconds=500)
    stale: timedelta = timedelta(hours=1)
    refused: timedelta = timedelta(seconds=5)
    capacity: int = 100_000
    look_up: timedelta = timedelta(seconds=1)


@dataclass(slots=True)
class _Known:
    principal: Principal
    checked_at: float
    expires_at: float


@dataclass(slots=True)
class _Refused:
    error: type[ArgosyError]
    message: str
    until: float


class Admission:
    """Admits keys. One per process; every method is called on the event loop."""

    def __init__(self, keys: Keys, clock: Clock, trust: Trust) -> None:
        self._keys = keys
        self._clock = clock
        self._trust = trust
        self._ttl = trust.unheard.total_seconds()
        self._stale = trust.stale.total_seconds()
        # Found by digest: the text of a key is not kept, and how long finding a SHA-256 takes tells nothing about it.
        self._known: dict[bytes, _Known] = {}
        self._refused: dict[bytes, _Refused] = {}
        self._digests: dict[str, bytes] = {}
        self._asking: dict[bytes, asyncio.Task[Principal]] = {}
        self._blind_until = 0.0
        self._forgotten = 0

    def recall(self, presented: bytes) -> Principal | None:
        """Answer from memory; None when the key has to be looked up."""
        known = self._known.get(hashlib.sha256(presented).digest())
        if known is None:
            return None
        now = self._clock.monotonic()
        age = now - known.checked_at
        if now < known.expires_at and (age < self._ttl or (now < self._blind_until and age < self._stale)):
            return known.principal
        return None

    async def admit(self, presented: bytes) -> Principal:
        """Answer from the record. Raises InvalidApiKey, KeyRevoked, KeyExpired, or Unavailable when it cannot know."""
        digest = hashlib.sha256(presented).digest()
        now = self._clock.monotonic()
        refused = self._refused.get(digest)
        if refused is not None and now < refused.until:
            raise refused.error(refused.message)
        key = parse_key(presented)
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._look_up(key))
            asking.add_done_callback(lambda done: self._asked(digest, done))
        # Shielded: one caller who leaves must not take the answer from the others who wait for it.
        return await asyncio.shield(asking)

    def forget(self, key_id: str) -> None:
        """Look this key up again at its next use: it was revoked or changed."""
        self._forgotten += 1
        digest = self._digests.pop(key_id, None)
        if digest is not None:
            self._known.pop(digest, None)
            self._refused.pop(digest, None)

    def hear(self, hearing: bool) -> None:
        """Say whether revocations arrive from now on; what was missed before is checked again."""
        if hearing:
            self._forgotten += 1
            for known in self._known.values():
                known.checked_at = min(known.checked_at, self._clock.monotonic() - self._trust.heard.total_seconds())
            self._refused.clear()
        self._ttl = (self._trust.heard if hearing else self._trust.unheard).total_seconds()

    def _asked(self, digest: bytes, done: asyncio.Task[Principal]) -> None:
        del self._asking[digest]
        if not done.cancelled():
            done.exception()  # read, because all who waited may have left

    async def _look_up(self, key: PresentedKey) -> Principal:
        forgotten = self._forgotten
        try:
            async with asyncio.timeout(self._trust.look_up.total_seconds()):
                record = await self._keys.find_key(key.key_id)
        except (Unavailable, TimeoutError):
            return self._go_on_blind(key)
        try:
            principal = self._judge(key, record)
        except ArgosyError as error:
            self._remember_refusal(key, error)
            raise
        # A revocation that came while the record was on its way may not be in it: answer, but do not remember.
        if record is not None and forgotten == self._forgotten:
            self._remember(key, record, principal)
        return principal

    def _judge(self, key: PresentedKey, record: ApiKey | None) -> Principal:
        if record is None or not hmac.compare_digest(record.sha256, key.sha256):
            raise InvalidApiKey("Incorrect API key provided: nobody has this key.")
        if record.revoked_at is not None:
            raise KeyRevoked("This API key was revoked.")
        if record.expires_at is not None and record.expires_at <= self._clock.now():
            raise KeyExpired("This API key has expired.")
        return Principal(
            tenant_id=record.tenant_id,
            project_id=record.project_id,
            key_id=record.key_id,
            roles=record.roles,
            plan=record.plan,
        )

    def _go_on_blind(self, key: PresentedKey) -> Principal:
        now = self._clock.monotonic()
        known = self._known.get(key.sha256)
        if known is None or now - known.checked_at >= self._stale or now >= known.expires_at:
            raise Unavailable("The API key cannot be checked right now; try again.", retry_after=timedelta(seconds=1))
        self._blind_until = now + self._trust.look_up.total_seconds()
        return known.principal

    def _remember(self, key: PresentedKey, record: ApiKey, principal: Principal) -> None:
        now = self._clock.monotonic()
        left = float("inf") if record.expires_at is None else (record.expires_at - self._clock.now()).total_seconds()
        self._refused.pop(key.sha256, None)
        self._known[key.sha256] = _Known(principal, checked_at=now, expires_at=now + left)
        self._digests[key.key_id] = key.sha256
        self._shrink(self._known)

    def _remember_refusal(self, key: PresentedKey, error: ArgosyError) -> None:
        if self._digests.get(key.key_id) == key.sha256:
            self._known.pop(key.sha256, None)
        until = self._clock.monotonic() + self._trust.refused.total_seconds()
        self._refused[key.sha256] = _Refused(type(error), error.message, until)
        self._shrink(self._refused)

    def _shrink(self, memory: dict[bytes, _Known] | dict[bytes, _Refused]) -> None:
        if len(memory) <= self._trust.capacity:
            return
        digest = next(iter(memory))
        dropped = memory.pop(digest)
        if isinstance(dropped, _Known):
            self._digests.pop(dropped.principal.key_id, None)
