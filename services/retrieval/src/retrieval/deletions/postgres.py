"""Pending deletions in Postgres: table `deletions`."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from chassis.postgres import Database
from chassis.postgres.leases import Claimed, Lease, LeaseLost, LeaseTable

from retrieval.deletions.delete import PendingDeletion
from retrieval.locks.postgres import lock_retirements

DELETIONS = LeaseTable("deletions", key=("tenant_id", "deletion_id"))

_DELETE_CHUNKS = """
DELETE FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3 AND ordinal < $4 + (
    SELECT min(ordinal) FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3)
"""
_DELETE_POSTINGS = """
DELETE FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3 AND first_ordinal = (
    SELECT min(first_ordinal) FROM postings WHERE tenant_id = $1 AND vector_store_id = $2 AND attachment = $3)
"""

_DELETE_VECTORS = """
DELETE FROM chunk_vectors WHERE tenant_id = $1 AND attachment = $2 AND ordinal < $3 + (
    SELECT min(ordinal) FROM chunk_vectors WHERE tenant_id = $1 AND attachment = $2)
"""


class PostgresDeletionQueue:
    """Implements DeletionQueue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, limit: int, lease: timedelta) -> Sequence[PendingDeletion]:
        claimed = await DELETIONS.claim_due(self._database.system(), limit, lease)
        return [claimed_to_deletion(item) for item in claimed]

    async def delete_chunks(self, deletion: PendingDeletion, limit: int) -> bool:
        key = (deletion.tenant_id, deletion.vector_store_id, deletion.attachment)
        async with self._database.tenant(deletion.tenant_id) as connection:
            await lock_retirements(connection, deletion.tenant_id, deletion.vector_store_id)
            try:
                await DELETIONS.lock(connection, _lease(deletion))
            except LeaseLost:
                return False
            chunks = await connection.execute(_DELETE_CHUNKS, *key, limit)
            vectors = await connection.execute(_DELETE_VECTORS, deletion.tenant_id, deletion.attachment, limit)
            postings = await connection.execute(_DELETE_POSTINGS, *key)
        return bool({chunks, vectors, postings} != {"DELETE 0"})

    async def complete(self, deletion: PendingDeletion) -> None:
        with suppress(LeaseLost):
            async with self._database.tenant(deletion.tenant_id) as connection:
                await DELETIONS.delete(connection, _lease(deletion))


def _lease(deletion: PendingDeletion) -> Lease:
    return Lease((deletion.tenant_id, deletion.deletion_id), deletion.epoch)


def claimed_to_deletion(claimed: Claimed) -> PendingDeletion:
    row = claimed.row
    return PendingDeletion(
        tenant_id=row["tenant_id"],
        deletion_id=row["deletion_id"],
        epoch=claimed.lease.epoch,
        object_key=row["object_key"] or "",
        vector_store_id=row["vector_store_id"] or "",
        attachment=row["attachment"] or 0,
    )
