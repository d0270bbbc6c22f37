"""Removing bytes and chunks that nothing refers to any more, a little at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from chassis.errors import ArgosyError

from retrieval.domain.files import Objects

# Shorter than what is left of any intent whose upload kept its time: see `Files.record`.
LEASE = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Removal:
    """Either an object or an attachment's chunks to remove; written in the transaction that made it superfluous."""

    tenant_id: str
    removal_id: str
    object_key: str = ""
    vector_store_id: str = ""
    attachment: int = 0


class Removals(Protocol):
    """What is to be removed, of all tenants."""

    async def claim(self, limit: int, lease: timedelta) -> Sequence[Removal]:
        """Some that are due; nobody else gets them during the lease."""

    async def remove_chunks(self, removal: Removal, limit: int) -> bool:
        """Remove at most `limit` chunks of the attachment; False when none was left."""

    async def done(self, removal: Removal) -> None:
        """It is removed, for good."""


async def sweep(*, removals: Removals, objects: Objects, batch_size: int = 20, chunks_at_once: int = 1_000) -> int:
    """Remove what is due, and return how much that was.

    What fails is due again after its lease, and keeps nothing else; the last failure is raised in the end.
    """
    claimed = await removals.claim(batch_size, LEASE)
    failure: ArgosyError | None = None
    for removal in claimed:
        try:
            await _remove(removal, removals, objects, chunks_at_once)
        except ArgosyError as error:
            failure = error
    if failure is not None:
        raise failure
    return len(claimed)


async def _remove(removal: Removal, removals: Removals, objects: Objects, chunks_at_once: int) -> None:
    if removal.object_key:
        await objects.delete(removal.object_key)
    while removal.attachment and await removals.remove_chunks(removal, chunks_at_once):
        pass
    await removals.done(removal)
