"""The port of idempotency keys."""

from typing import Protocol

from orchestrator.idempotency.model import IdempotencyKey


class IdempotencyKeys(Protocol):
    """Remembers which id a key stands for."""

    async def resolve(self, key: IdempotencyKey, new_id: str) -> str:
        """Return the id that the key stands for; from now on `new_id`, if it is new or older than `KEPT_FOR`.

        Durable when it returns. Nothing of that id need exist: its request may have been refused, or lost.
        """
