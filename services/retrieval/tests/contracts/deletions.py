"""Tests of DeletionQueue: on the fake in `unit`, on Postgres in `integration`."""

from __future__ import annotations

from datetime import timedelta

from retrieval.deletions.delete import PendingDeletion

from services.retrieval.tests.tenants import LONG, NOW, Tenant


class DeletionQueueContract:
    async def test_a_claimed_deletion_is_due_again_after_its_lease(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-1", NOW)

        async def claim(lease: timedelta) -> list[str]:
            return [d.object_key for d in await one.ports.deletions.claim(1000, lease) if d.tenant_id == one.tenant_id]

        assert await claim(NOW) == [f"{one.tenant_id}/file-1"]
        assert await claim(LONG) == [f"{one.tenant_id}/file-1"]
        assert await claim(LONG) == []

    async def test_a_completed_deletion_is_not_claimed_again(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-1", NOW)
        [deletion] = await self._claim(one)

        await one.ports.deletions.complete(deletion)

        assert await self._claim(one) == []

    async def test_a_deletion_that_was_claimed_again_is_completed_by_its_latest_claim_only(self, one: Tenant) -> None:
        await one.ports.files.begin_upload(one.tenant_id, "file-1", NOW)
        [first], [second] = await self._claim(one), await self._claim(one)

        await one.ports.deletions.complete(first)
        [third] = await self._claim(one)
        await one.ports.deletions.complete(third)

        assert first.epoch < second.epoch < third.epoch
        assert await self._claim(one) == []

    async def _claim(self, one: Tenant) -> list[PendingDeletion]:
        return [d for d in await one.ports.deletions.claim(1000, NOW) if d.tenant_id == one.tenant_id]
