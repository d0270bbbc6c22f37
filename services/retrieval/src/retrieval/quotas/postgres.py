"""What a tenant keeps, counted in Postgres in the transaction that adds to it.

A lock of the tenant is held until the commit, so that two transactions cannot pass a limit together. It is the first
lock of its transaction (`retrieval.locks.postgres`). Without a limit nothing is locked and nothing
counted.
"""

from typing import Any

from retrieval.quotas.model import Quota, check_quota

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('storage_quota ' || $1, 0))"
_FILES = "SELECT count(*) AS files, coalesce(sum(size_bytes), 0)::bigint AS file_bytes FROM files WHERE tenant_id = $1"
_VECTOR_STORES = "SELECT count(*) FROM vector_stores WHERE tenant_id = $1"
_CHUNKS = "SELECT coalesce(sum(chunks), 0)::bigint FROM attachments WHERE tenant_id = $1 AND state <> 'failed'"


async def check_file(connection: Any, tenant_id: str, quota: Quota, size_bytes: int) -> None:
    """Raise StorageQuotaExceeded when there is no room for a file of this size."""
    if quota.files is None and quota.file_bytes is None:
        return
    await connection.execute(_LOCK, tenant_id)
    used = await connection.fetchrow(_FILES, tenant_id)
    check_quota("files", quota.files, used["files"], 1)
    check_quota("file_bytes", quota.file_bytes, used["file_bytes"], size_bytes)


async def check_vector_store(connection: Any, tenant_id: str, quota: Quota) -> None:
    """Raise StorageQuotaExceeded when there is no room for another store."""
    if quota.vector_stores is not None:
        await connection.execute(_LOCK, tenant_id)
        used = await connection.fetchval(_VECTOR_STORES, tenant_id)
        check_quota("vector_stores", quota.vector_stores, used, 1)


async def lock_chunks(connection: Any, tenant_id: str, quota: Quota) -> None:
    """Keep others from adding chunks of this tenant that are counted, before `check_chunks`."""
    if quota.chunks is not None:
        await connection.execute(_LOCK, tenant_id)


async def check_chunks(connection: Any, tenant_id: str, quota: Quota, added: int) -> None:
    """Raise StorageQuotaExceeded when there is no room for so many chunks; `lock_chunks` has been called."""
    if quota.chunks is not None:
        check_quota("chunks", quota.chunks, await connection.fetchval(_CHUNKS, tenant_id), added)
