"""Forgets cached answers of a tenant, of a model, or of both."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from chassis.errors import ArgosyError, InvalidRequest, Kind, Unavailable

from orchestrator.response_cache.ports import NO_LISTENERS, AnswerStore, Purged, PurgeListener

REMOVAL_PAUSE: Final = timedelta(seconds=30)
MAX_REMOVALS: Final = 1_000
"""Purges whose bytes wait for removal. Those of any more stay until their time to live is over."""


class CachedPromptsRemain(ArgosyError):
    """The cached answers are purged, and none is given any more; their prompts are not removed. Try again."""

    kind, reason = Kind.UNAVAILABLE, "CACHED_PROMPTS_REMAIN"


class Removals:
    """Removes the bytes of purged answers in the background.

    A removal reads the names of all keys of a store that others use too. So there is one at a time, for all purges
    since the one before, and then a pause. What a failed one has left is tried again.
    """

    def __init__(
        self,
        store: AnswerStore,
        start: Callable[[Coroutine[Any, Any, object]], object],
        pause: timedelta = REMOVAL_PAUSE,
    ) -> None:
        """`start` runs a removal in the background."""
        self._store = store
        self._start = start
        self._pause = pause
        self._waiting: set[Purged] = set()
        self._is_busy = False

    def add(self, purged: Purged) -> None:
        if len(self._waiting) < MAX_REMOVALS:
            self._waiting.add(purged)
        if not self._is_busy:
            self._begin()

    def _begin(self) -> None:
        self._is_busy = bool(self._waiting)
        if self._is_busy:
            self._start(self._remove())

    async def _remove(self) -> None:
        purged, self._waiting = self._waiting, set()
        try:
            await self._store.remove(purged)
        except Unavailable:
            self._waiting |= purged
            raise
        finally:
            asyncio.get_running_loop().call_later(self._pause.total_seconds(), self._begin)


@dataclass(frozen=True, slots=True)
class PurgeCache:
    """Purges the answers of all replicas."""

    store: AnswerStore
    removals: Removals
    listeners: Sequence[PurgeListener] = NO_LISTENERS

    async def purge(self, purged: Purged) -> None:
        """Forget all such answers up to now.

        When it returns no replica gives one of them; their bytes are removed soon after. Raises `InvalidRequest` for
        all answers of all tenants, `Unavailable` when the store does not answer, and `CachedPromptsRemain`.
        """
        if purged == (None, None):
            raise InvalidRequest("name a tenant or a model: all answers of all tenants are not purged at once")
        await self.store.purge(purged)
        self.removals.add(purged)
        try:
            for listener in self.listeners:
                await listener.purge(*purged)
        except ArgosyError as error:
            raise CachedPromptsRemain(
                "The cached answers are purged: none is given any more. Their prompts could not be removed, because "
                "retrieval does not answer. Repeat this to remove them; else they go when their time to live is over."
            ) from error
