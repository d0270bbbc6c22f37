"""A store of cached answers in memory, and a chat cache over it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chassis.clock import Clock
from chassis.errors import Unavailable
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import Looked, Purged, Turn

FOR_ALL = "*"


@dataclass
class FakeAnswerStore:
    """Keeps the contract of the real one; every method fails while it is `down`."""

    clock: Clock
    down: bool = False
    answers: dict[CacheKey, tuple[bytes, datetime]] = field(default_factory=dict)
    locks: dict[CacheKey, tuple[str, datetime]] = field(default_factory=dict)
    purges: dict[Purged, int] = field(default_factory=dict)
    removals: list[Collection[Purged]] = field(default_factory=list)
    finds: int = 0

    async def find(self, key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        self._check()
        self.finds += 1
        data = self._data(key)
        turn = Turn.NOT_ASKED if data is not None or lease is None else await self.lock(key, token, lease)
        return Looked(self._now_ms(), await self.purged_ms(key), data, turn)

    async def lock(self, key: CacheKey, token: str, lease: timedelta) -> Turn:
        self._check()
        if holder := self._holder(key):
            return Turn.ALL if holder == FOR_ALL else Turn.THEIRS
        self.locks[key] = (token, self.clock.now() + lease)
        return Turn.OURS

    async def purged_ms(self, key: CacheKey) -> int:
        self._check()
        marks = (Purged(key.tenant_id, None), Purged(key.tenant_id, key.model), Purged(None, key.model))
        return max(self.purges.get(mark, 0) for mark in marks)

    def renew(self, key: CacheKey, token: str, lease: timedelta) -> None:
        if not self.down and key in self.locks and self.locks[key][0] == token:
            self.locks[key] = (token, self.clock.now() + lease)

    def put(self, key: CacheKey, data: bytes, ttl: timedelta, token: str) -> None:
        if not self.down:
            self.answers[key] = (data, self.clock.now() + ttl)
            self.unlock(key, token)
            self.unlock(key, FOR_ALL)

    def give_to_all(self, key: CacheKey, token: str, duration: timedelta) -> None:
        if not self.down and self._holder(key) in {"", token, FOR_ALL}:
            self.locks[key] = (FOR_ALL, self.clock.now() + duration)

    def unlock(self, key: CacheKey, token: str) -> None:
        if not self.down and key in self.locks and self.locks[key][0] == token:
            del self.locks[key]

    async def purge(self, purged: Purged) -> None:
        self._check()
        self.purges[purged] = self._now_ms()

    async def remove(self, purged: Collection[Purged]) -> int:
        self._check()
        self.removals.append(purged)
        removed = [
            key
            for key in self.answers
            if any(one.tenant_id in {None, key.tenant_id} and one.model in {None, key.model} for one in purged)
        ]
        for key in removed:
            del self.answers[key]
        return len(removed)

    def _holder(self, key: CacheKey) -> str:
        token, expires = self.locks.get(key, ("", self.clock.now()))
        return token if expires > self.clock.now() else ""

    def _data(self, key: CacheKey) -> bytes | None:
        data, expires = self.answers.get(key, (b"", self.clock.now()))
        return data if expires > self.clock.now() else None

    def _now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("redis is not connected")
