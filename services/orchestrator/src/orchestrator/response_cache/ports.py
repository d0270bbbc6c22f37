"""The ports of the response cache."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from enum import Enum
from typing import NamedTuple, Protocol

from orchestrator.response_cache.model import CacheKey


class Turn(Enum):
    """Who makes the answer of a key."""

    NOT_ASKED = 0
    OURS = 1
    """The caller, who holds the key's lock now."""
    THEIRS = 2
    """Who holds its lock."""
    ALL = 3
    """Each request its own: the last answer was not kept."""


class Purged(NamedTuple):
    """Whose answers are purged. None is any tenant, or any model."""

    tenant_id: str | None
    model: str | None


class Looked(NamedTuple):
    """What the store knows of a key. Times are milliseconds since 1970 by its clock."""

    now_ms: int
    purged_ms: int
    """The last purge that concerns the key; 0 without one."""
    data: bytes | None = None
    turn: Turn = Turn.NOT_ASKED


class AnswerStore(Protocol):
    """Keeps answers as bytes. What it keeps can be lost at any time.

    Methods that are not awaited send a command and forget it: without its effect an answer is made once more.
    """

    async def find(self, key: CacheKey, token: str, lease: timedelta | None) -> Looked:
        """Read a key; if it is empty and there is a `lease`, try to take its lock as `token`. Raises `Unavailable`."""

    async def lock(self, key: CacheKey, token: str, lease: timedelta) -> Turn:
        """Take the lock of a key if it is free. Raises `Unavailable`."""

    async def purged_ms(self, key: CacheKey) -> int:
        """Return the last purge that concerns the key, as `find` does. Raises `Unavailable`."""

    def renew(self, key: CacheKey, token: str, lease: timedelta) -> None:
        """Keep the lock for another `lease`, if `token` still has it."""

    def put(self, key: CacheKey, data: bytes, ttl: timedelta, token: str) -> None:
        """Keep `data`, and give the lock back if `token` has it, or no request."""

    def give_to_all(self, key: CacheKey, token: str, duration: timedelta) -> None:
        """Let each request make its own answer for a time. Another holder of the lock keeps it."""

    def unlock(self, key: CacheKey, token: str) -> None:
        """Give the lock back if `token` has it."""

    async def purge(self, purged: Purged) -> None:
        """Mark all such answers up to now as purged. Raises `Unavailable`: the marks may not be set."""

    async def remove(self, purged: Collection[Purged]) -> int:
        """Remove the bytes of all such answers, and return how many; locks stay. Raises `Unavailable`."""


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
        """Forget its answers. Raises ArgosyError."""


NO_LISTENERS: Sequence[PurgeListener] = ()
