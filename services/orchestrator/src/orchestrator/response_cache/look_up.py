"""Looks for an answer in the cache, and keeps the one that is made instead.

Equal requests at the same time make one provider call: in a process they wait for its first (`Flights`), and the first
of each process waits for that of the replica that holds the key's lock. A leader that fails lets the next one lead.
A request that has waited for long makes its own call.
"""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, NamedTuple

from chassis.errors import Unavailable
from chassis.ids import new_id
from values.usage import CacheOutcome

from orchestrator.response_cache.envelope import unpack
from orchestrator.response_cache.flights import Flights, SharedAnswer, Unshared
from orchestrator.response_cache.lease import LEASE, Lease
from orchestrator.response_cache.model import CachedAnswer, CacheKey, CacheMode, CachePolicy, Hit
from orchestrator.response_cache.ports import AnswerStore, Looked, Turn

MIN_POLL_SECONDS: Final = 0.02
MAX_POLL_SECONDS: Final = 0.25
"""Between two finds at the key that another replica has locked."""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """The settings describe them."""

    max_entry_bytes: int
    max_wait: timedelta


class Lookup(NamedTuple):
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

    async def is_purged(self, key: CacheKey, created_ms: int) -> bool:
        """Tell whether an answer that was asked for at that time is purged.

        It never fails: without the store it is not.
        """
        try:
            return max(1, created_ms) <= await self.store.purged_ms(key)
        except Unavailable:
            self.on_bypassed()
            return False


class _Finder:
    """One look into the cache."""

    def __init__(self, cache: ResponseCache, key: CacheKey, policy: CachePolicy, max_age: timedelta | None) -> None:
        self._cache = cache
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
            if answer is Unshared.NOT_KEPT:
                return await self._alone()
            # It may have been found, and be older than this request accepts.
            if isinstance(answer, SharedAnswer) and self._is_fresh(answer.age_ms) and await self._is_valid(answer):
                return Lookup(self._key, self._as_hit(answer.answer, answer.outcome, answer.age_ms // 1000))
        self._flights.begin(self._key)
        token = next(tokens)
        try:
            return await self._lead(token, until)
        except BaseException:
            self._store.unlock(self._key, token)
            self._flights.end(self._key, Unshared.NOT_MADE)
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
                age_ms = max(0, looked.now_ms - hit.answer.created_ms)
                self._flights.end(self._key, SharedAnswer(hit.answer, age_ms))
                return Lookup(self._key, hit)
            turn = looked.turn if looked.data is None else await self._lock(token)
            if turn is Turn.ALL:
                self._flights.end(self._key, Unshared.NOT_KEPT)
                return Lookup(self._key, lease=self._lease("", looked.now_ms), stale=self._stale)
            if turn is Turn.OURS:
                return Lookup(self._key, lease=self._lease(token, looked.now_ms, leads=True), stale=self._stale)
            if loop.time() >= until:
                lease = self._lease("", looked.now_ms, leads=True)
                return Lookup(self._key, lease=lease, stale=self._stale)
            # Another replica makes it. Jitter: not all replicas look at once.
            await asyncio.sleep(min(random.uniform(pause / 2, pause), max(0.0, until - loop.time())))  # noqa: S311
            pause = min(pause * 2, MAX_POLL_SECONDS)

    async def _alone(self) -> Lookup:
        """Look without waiting for others, and without making others wait."""
        looked = await self._find("", None)
        if looked is None:
            return Lookup(self._key)
        hit = self._hit(looked)
        lease = None if hit is not None else self._lease("", looked.now_ms)
        return Lookup(self._key, hit, lease, self._stale)

    async def _is_valid(self, shared: SharedAnswer) -> bool:
        """Tell whether the answer that this request waited for is not of before a purge that was before the request."""
        if shared.check is None:
            # All who have waited came before now, so one look is good for all of them.
            check = self._cache.is_purged(self._key, shared.answer.created_ms)
            shared.check = asyncio.get_running_loop().create_task(check)
        return not await asyncio.shield(shared.check)

    def _lease(self, token: str, created_ms: int | None, *, leads: bool = False) -> Lease:
        def end(answer: SharedAnswer | Unshared) -> None:
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

    async def _lock(self, token: str) -> Turn:
        with suppress(Unavailable):
            return await self._store.lock(self._key, token, LEASE)
        return Turn.THEIRS

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
