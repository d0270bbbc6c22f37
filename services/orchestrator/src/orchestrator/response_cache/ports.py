"""The ports of the response cache."""

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple, Protocol

from orchestrator.response_cache.model import CacheKey


class Looked(NamedTuple):
    """What the store knows of a key. Times are milliseconds since 1970 by its clock."""

    now_ms: int
    purged_ms: int
    """The last purge that concerns the key; 0 without one."""
    data: bytes | None = None
    leads: bool = False
    """Whether the caller holds the key's lock now: it makes the answer for all."""


class AnswerStore(Protocol):
    """Keeps answers as bytes. What it keeps can be lost at any time.

    Methods that are not awaited send a command and forget it: without its effect an answer is made once more.
    """

    async def find(self, key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        """Read a key; if it is empty and there is a `lease`, try to take its lock as `token`. Raises `Unavailable`."""

    async def lock(self, key: CacheKey, token: str, lease: timedelta) -> bool:
        """Take the lock of a key; return whether it was free. Raises `Unavailable`."""

    def renew(self, key: CacheKey, token: str, lease: timedelta) -> None:
        """Keep the lock for another `lease`, if `token` still has it."""

    def put(self, key: CacheKey, data: bytes, ttl: timedelta, token: str) -> None:
        """Keep `data`, and give the lock back if `token` has it."""

    def unlock(self, key: CacheKey, token: str) -> None:
        """Give the lock back if `token` has it."""

    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        """Mark all answers up to now as purged: of a tenant, of a model, of both. None is any.

        Raises `Unavailable`: the marks may not be set.
        """

    async def remove(self, tenant_id: str | None, model: str | None) -> int:
        """Remove the bytes of such answers, and return how many. Raises `Unavailable`."""


class NearPrompt(NamedTuple):
    """A prompt that is near another, and the name of its answer."""

    entry_id: str
    text: str


class PromptIndex(Protocol):
    """Finds prompts of the current caller's tenant by meaning. What it keeps can be lost at any time."""

    async def find(
        self, partition: bytes, prompt: str, min_similarity: float, limit: int, timeout: timedelta
    ) -> Sequence[NearPrompt]:
        """Find prompts of the partition, nearest first. Raises ArgosyError."""

    async def put(self, partition: bytes, entry_id: str, model: str, prompt: str, lifetime: timedelta) -> None:
        """Keep a prompt. Raises ArgosyError."""


class PurgeListener(Protocol):
    """Another cache of answers, that is purged with the exact one."""

    async def purge(self, tenant_id: str | None, model: str | None) -> None:
        """Forget its answers. Raises `Unavailable`."""


NO_LISTENERS: Sequence[PurgeListener] = ()
