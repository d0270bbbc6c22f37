"""Pending deletions in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from retrieval.deletions.delete import PendingDeletion
from retrieval.deletions.report import DeletionNotFound, Remains

from services.retrieval.tests.fakes import InMemoryDatabase


class FakeDeletionQueue:
    def __init__(self, database: InMemoryDatabase) -> None:
        self._database = database

    async def claim(self, limit: int, lease: timedelta) -> Sequence[PendingDeletion]:
        now = self._database.clock.now()
        due = [deletion for deletion, due_at in self._database.deletions.values() if due_at <= now][:limit]
        claimed = [replace(deletion, epoch=deletion.epoch + 1) for deletion in due]
        for deletion in claimed:
            self._database.deletions[deletion.tenant_id, deletion.deletion_id] = (deletion, now + lease)
        return claimed

    async def delete_chunks(self, deletion: PendingDeletion, limit: int) -> bool:
        return False

    async def complete(self, deletion: PendingDeletion) -> None:
        key = (deletion.tenant_id, deletion.deletion_id)
        if key in self._database.deletions and self._database.deletions[key][0].epoch == deletion.epoch:
            del self._database.deletions[key]


class FakeDeletionRecords:
    """What tests say is left of what was deleted, by tenant and id."""

    def __init__(self) -> None:
        self.left: dict[tuple[str, str], tuple[datetime, datetime, Remains]] = {}

    async def remains(self, tenant_id: str, resource_id: str) -> tuple[datetime, datetime, Remains]:
        if (tenant_id, resource_id) not in self.left:
            raise DeletionNotFound(f"no {resource_id!r} was deleted here", param="id")
        return self.left[tenant_id, resource_id]

    async def forget(self, older_than: timedelta) -> bool:
        return False
