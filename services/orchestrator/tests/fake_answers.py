"""A store of cached answers in memory, and a chat cache over it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from chassis.clock import Clock
from chassis.errors import Unavailable
from orchestrator.response_cache.model import CacheKey
from orchestrator.response_cache.ports import Looked


@dataclass
class FakeAnswerStore:
    """Keeps the contract of the real one; every method fails while it is `down`."""

    clock: Clock
    down: bool = False
    answers: dict[CacheKey, tuple[bytes, datetime]] = field(default_factory=dict)
    locks: dict[CacheKey, tuple[str, datetime]] = field(default_factory=dict)
    purges: dict[tuple[str | None, str | None], int] = field(default_factory=dict)
    finds: int = 0

    async def find(self, key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        self._check()
        self.finds += 1
        data = self._data(key)
        leads = data is None and lease is not None and await self.lock(key, token, lease)
        marks = ((key.tenant_id, None), (key.tenant_id, key.model), (None, key.model))
        return Looked(self._now_ms(), max(self.purges.get(mark, 0) for mark in marks), data, leads)

    async def lock(self, key: CacheKey, token: str, lease: timedelta) -> bool:
        self._check()
        if key in self.locks and self.locks[key][1] > self.clock.now():
            return False
        self.locks[key] = (token, self.clock.now() + lease)
        return True

    def renew(self, key: CacheKey, token: str, lease: timedelta) -> None:
        if not self.down and key in self.locks and self.locks[key][0] == token:
            self.locks[key] = (token, self.clock.now() + lease)

    def put(self, key: CacheKey, data: bytes, ttl: timedelta, token: str) -> None:
        if not self.down:
            self.answers[key] = (data, self.clock.now() + ttl)
            self.unlock(key, token)

    def unlock(self, key: CacheKey, token: str) -> None:
        if not self.down and key in self.locks and self.locks[key][0] == token:
            del self.locks[key]

    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        self._check()
        self.purges[tenant_id, model] = self._now_ms()

    async def remove(self, tenant_id: str | None, model: str | None) -> int:
        self._check()
        removed = [key for key in self.answers if tenant_id in {None, key.tenant_id} and model in {None, key.model}]
        for key in removed:
            del self.answers[key]
        return len(removed)

    def _data(self, key: CacheKey) -> bytes | None:
        data, expires = self.answers.get(key, (b"", self.clock.now()))
        return data if expires > self.clock.now() else None

    def _now_ms(self) -> int:
        return int(self.clock.now().timestamp() * 1000)

    def _check(self) -> None:
        if self.down:
            raise Unavailable("redis is not connected")
