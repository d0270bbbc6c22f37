"""Looks for an answer in the cache, and keeps the one that is made instead.

Equal requests at the same time make one provider call: in a process they wait for its first (`Flights`), and the first
of each process waits for that of the replica that holds the key's lock. A leader that fails lets the next one lead.
Whoever has waited for long makes its own call.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from chassis.errors import Unavailable
from chassis.ids import new_id
from values.usage import CacheOutcome

from orchestrator.response_cache.envelope import pack, unpack
from orchestrator.response_cache.flights import Flights, SharedAnswer
from orchestrator.response_cache.model import CachedAnswer, CacheKey, CacheMode, CachePolicy, Hit
from orchestrator.response_cache.ports import AnswerStore, Looked

LEASE: Final = timedelta(seconds=9)
"""Of a key's lock. A leader renews it; when it dies, another replica leads after this time."""
RENEW_SECONDS: Final = 3.0
MIN_POLL_SECONDS: Final = 0.02
MAX_POLL_SECONDS: Final = 0.25
"""Between two finds at the key that another replica has locked."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """The settings describe them."""

    max_entry_bytes: int
    max_wait: timedelta


class Lease:
    """The right to make an answer, and to keep it. It ends once, by `keep` or `release`; further calls do nothing."""

    __slots__ = (
        "_created_ms",
        "_end",
        "_key",
        "_lifetime",
        "_renewal",
        "_store",
        "_token",
        "ended",
        "max_bytes",
        "on_kept",
    )

    def __init__(
        self,
        store: AnswerStore,
        key: CacheKey,
        token: str,
        created_ms: int | None,
        *,
        lifetime: timedelta,
        max_bytes: int,
        end: Callable[[SharedAnswer | None], None],
    ) -> None:
        """`token` is empty without a lock; without `created_ms` the answer goes to those who wait only."""
        self._store = store
        self._key = key
        self._token = token
        self._created_ms = created_ms
        self._lifetime = lifetime
        self._end = end
        self._renewal: asyncio.TimerHandle | None = None
        self.max_bytes = max_bytes
        """An answer of more bytes is not kept."""
        self.on_kept: Callable[[CachedAnswer], None] = lambda _: None
        """Is called with an answer that is kept."""
        self.ended = False
        if token:
            self._renewal = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._renew)

    def keep(self, answer: CachedAnswer) -> None:
        """Keep the answer, and give it to those who wait for it."""
        if self.ended:
            return
        self._finish()
        if self._created_ms is None:
            self._end(SharedAnswer(answer))
            return
        answer = answer._replace(created_ms=self._created_ms)
        try:
            data = pack(answer, self._key)
            if len(data) <= self.max_bytes:
                self._store.put(self._key, data, self._lifetime, self._token)
                self.on_kept(answer)
            elif self._token:
                self._store.unlock(self._key, self._token)
        finally:
            self._end(SharedAnswer(answer))

    def share(self, found: SharedAnswer) -> None:
        """Give an answer that is kept elsewhere to those who wait for this one."""
        self._finish_with(found)

    def release(self) -> None:
        """Let another request make the answer."""
        self._finish_with(None)

    def _finish_with(self, found: SharedAnswer | None) -> None:
        if self.ended:
            return
        self._finish()
        if self._token:
            self._store.unlock(self._key, self._token)
        self._end(found)

    def _finish(self) -> None:
        self.ended = True
        if self._renewal is not None:
            self._renewal.cancel()

    def _renew(self) -> None:
        self._store.renew(self._key, self._token, LEASE)
        self._renewal = asyncio.get_running_loop().call_later(RENEW_SECONDS, self._renew)


@dataclass(frozen=True, slots=True)
class Lookup:
    """The result: a hit, or none. Then the answer that is made is kept by `lease`, if there is one."""

    key: CacheKey
    hit: Hit | None = None
    lease: Lease | None = None
    stale: Hit | None = None
    """To be given if all providers fail."""


class ResponseCache:
    """The exact cache of one process."""

    def __init__(
        self,
        store: AnswerStore,
        limits: CacheLimits,
        *,
        on_bypassed: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_bypassed` is called for a request that does without the store, because it does not answer."""
        self.store = store
        self.limits = limits
        self.on_bypassed = on_bypassed
        self.flights = Flights()
        process = new_id("lck_")
        self._tokens: Iterator[str] = (f"{process}.{number}" for number in itertools.count())

    async def look_up(
        self, key: CacheKey, mode: CacheMode, policy: CachePolicy, max_age: timedelta | None, timeout: timedelta
    ) -> Lookup:
        """Look for an answer of at most `max_age`. `timeout` bounds the wait for one that is being made.

        It never fails: without the store there is no hit.
        """
        finder = _Finder(self, key, policy, max_age)
        if mode is CacheMode.ON:
            return await finder.read_and_write(min(timeout, self.limits.max_wait), self._tokens)
        return await (finder.read() if mode is CacheMode.READ else finder.write())

    async def read(self, key: CacheKey, policy: CachePolicy, max_age: timedelta | None) -> Hit | None:
        """Return the answer of a key if it may be given. It never fails."""
        return (await _Finder(self, key, policy, max_age).read()).hit


class _Finder:
    """One look into the cache."""

    def __init__(self, cache: ResponseCache, key: CacheKey, policy: CachePolicy, max_age: timedelta | None) -> None:
        self._store = cache.store
        self._limits = cache.limits
        self._flights = cache.flights
        self._on_bypassed = cache.on_bypassed
        self._key = key
        self._policy = policy
        self._max_age = policy.ttl if max_age is None else min(max_age, policy.ttl)
        self._stale: Hit | None = None

    async def read(self) -> Lookup:
        looked = await self._find("", None)
        return Lookup(self._key, None if looked is None else self._hit(looked), stale=self._stale)

    async def write(self) -> Lookup:
        looked = await self._find("", None)
        return Lookup(self._key, lease=None if looked is None else self._lease("", looked.now_ms))

    async def read_and_write(self, max_wait: timedelta, tokens: Iterator[str]) -> Lookup:
        loop = asyncio.get_running_loop()
        until = loop.time() + max_wait.total_seconds()
        while self._key in self._flights:
            try:
                answer = await self._flights.wait(self._key, max(0.0, until - loop.time()))
            except TimeoutError:
                return Lookup(self._key)
            # It may have been found, and be older than this request accepts.
            if answer is not None and self._is_fresh(answer.age_ms):
                return Lookup(self._key, self._as_hit(answer.answer, answer.outcome, answer.age_ms // 1000))
        self._flights.begin(self._key)
        token = next(tokens)
        try:
            return await self._lead(token, until)
        except BaseException:
            self._store.unlock(self._key, token)
            self._flights.end(self._key, None)
            raise

    async def _lead(self, token: str, until: float) -> Lookup:
        """Look as the only one of this process."""
        loop = asyncio.get_running_loop()
        pause = MIN_POLL_SECONDS
        while True:
            looked = await self._find(token, LEASE)
            if looked is None:
                return Lookup(self._key, lease=self._lease("", None, leads=True))
            hit = self._hit(looked)
            if hit is not None:
                self._flights.end(self._key, SharedAnswer(hit.answer, looked.now_ms - hit.answer.created_ms))
                return Lookup(self._key, hit)
            if looked.leads or (looked.data is not None and await self._lock(token)):
                return Lookup(self._key, lease=self._lease(token, looked.now_ms, leads=True), stale=self._stale)
            if loop.time() >= until:
                lease = self._lease("", looked.now_ms, leads=True)
                return Lookup(self._key, lease=lease, stale=self._stale)
            # Another replica makes it. Jitter: not all replicas look at once.
            await asyncio.sleep(min(random.uniform(pause / 2, pause), max(0.0, until - loop.time())))  # noqa: S311
            pause = min(pause * 2, MAX_POLL_SECONDS)

    def _lease(self, token: str, created_ms: int | None, *, leads: bool = False) -> Lease:
        def end(answer: SharedAnswer | None) -> None:
            if leads:
                self._flights.end(self._key, answer)

        lifetime = self._policy.ttl + self._policy.stale_if_error
        max_bytes = self._limits.max_entry_bytes
        return Lease(self._store, self._key, token, created_ms, lifetime=lifetime, max_bytes=max_bytes, end=end)

    async def _find(self, token: str, lease: timedelta | None) -> Looked | None:
        try:
            return await self._store.find(self._key, token, lease)
        except Unavailable:
            self._on_bypassed()
            return None

    async def _lock(self, token: str) -> bool:
        with suppress(Unavailable):
            return await self._store.lock(self._key, token, LEASE)
        return False

    def _hit(self, looked: Looked) -> Hit | None:
        """Return the answer if it may be given, and remember one that may only be given after failures."""
        answer = None if looked.data is None else unpack(looked.data, self._key)
        if answer is None or answer.created_ms <= looked.purged_ms:
            return None
        age = max(0, looked.now_ms - answer.created_ms)
        if self._is_fresh(age):
            return self._as_hit(answer, CacheOutcome.HIT, age // 1000)
        if timedelta(milliseconds=age) <= self._policy.ttl + self._policy.stale_if_error:
            self._stale = self._as_hit(answer, CacheOutcome.STALE, age // 1000)
        return None

    def _is_fresh(self, age_ms: int) -> bool:
        return timedelta(milliseconds=age_ms) <= self._max_age

    def _as_hit(self, answer: CachedAnswer, outcome: CacheOutcome, age_seconds: int) -> Hit:
        return Hit(answer, outcome, age_seconds, self._policy.percent_off)
