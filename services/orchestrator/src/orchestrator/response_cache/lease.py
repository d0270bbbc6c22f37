"""The right to make an answer that others wait for, and to keep it."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from orchestrator.response_cache.envelope import pack
from orchestrator.response_cache.flights import SharedAnswer, Unshared
from orchestrator.response_cache.model import CachedAnswer, CacheKey
from orchestrator.response_cache.ports import AnswerStore

LEASE: Final = timedelta(seconds=9)
"""Of a key's lock. A leader renews it; when it dies, another replica leads after this time."""
RENEW_SECONDS: Final = 3.0
NOT_KEPT: Final = timedelta(seconds=60)
"""How long requests do not wait for each other after an answer that was not kept."""


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
        end: Callable[[SharedAnswer | Unshared], None],
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
            else:
                self._store.give_to_all(self._key, self._token, NOT_KEPT)
        finally:
            self._end(SharedAnswer(answer))

    def share(self, found: SharedAnswer) -> None:
        """Give an answer that is kept elsewhere to those who wait for this one."""
        self._finish_with(found)

    def refuse(self) -> None:
        """Let each request make its own answer for a time: this one was made, and cannot be kept."""
        if self.ended:
            return
        self._finish()
        if self._created_ms is not None:
            self._store.give_to_all(self._key, self._token, NOT_KEPT)
        self._end(Unshared.NOT_KEPT)

    def release(self) -> None:
        """Let another request make the answer."""
        self._finish_with(Unshared.NOT_MADE)

    def _finish_with(self, found: SharedAnswer | Unshared) -> None:
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
