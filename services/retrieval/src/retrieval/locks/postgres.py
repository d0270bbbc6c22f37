"""The order in which transactions of this service lock rows, so that none wait for each other in a circle (ADR 55).

1. The lock of the tenant's quota (`retrieval.quotas.postgres`).
2. `vector_stores`, by id. A writer of what is in the store takes FOR KEY SHARE. FOR UPDATE keeps those out: a deletion,
   the expiry, a change of the embedding model. A row that is going to be changed is changed, or locked for it, before
   FOR KEY SHARE: a stronger lock after a weaker one waits behind a deletion that waits for the weaker one.
3. `file_batches`, then `store_migrations`, by id.
4. `files`, by id: FOR KEY SHARE where one is attached, FOR UPDATE where it is deleted.
5. `attachments`: new ones by file, then those that exist by number. A transaction that needs none of the above may
   begin here.
6. `deletions`, by id, and what is deleted. `chunks`, `chunk_vectors` and `postings` belong to the lock of their
   attachment; once that is gone, to that of its row in `deletions`; vectors of a retired space also to that of their
   migration.
7. `store_counts`, by store, in triggers on `attachments`; then `lexeme_counts` and `common_lexemes`.

A transaction changes a row of `attachments` once. At a second change Postgres checks the foreign keys again, which
locks the store and the file after the attachment. What changes a row after other work locks it first
(`LeaseTable.lock`). Rows that are skipped when they are locked (SKIP LOCKED) may be taken at any place.
"""

from collections.abc import Sequence
from typing import Any

_IN_STORE = "tenant_id = $1 AND vector_store_id = $2"
_STORE = f"SELECT * FROM vector_stores WHERE {_IN_STORE}"  # noqa: S608 - constants
# Inside of an aggregate, because there may be a hundred thousand of them.
_ATTACHMENTS = """
SELECT count(*) FROM (
    SELECT FROM attachments WHERE tenant_id = $1 AND {condition} ORDER BY attachment FOR UPDATE
) AS held
"""
_OF_STORE = _ATTACHMENTS.format(condition="vector_store_id = $2")
_OF_FILE = _ATTACHMENTS.format(condition="file_id = $2")
_OF_FILES = _ATTACHMENTS.format(condition="vector_store_id = $2 AND file_id = ANY($3::text[])")
# What goes with the store by foreign keys, so that it is not locked after the attachments.
_BATCHES = f"SELECT FROM file_batches WHERE {_IN_STORE} ORDER BY batch_id FOR UPDATE"
_MIGRATIONS = f"SELECT FROM store_migrations WHERE {_IN_STORE} ORDER BY migration_id FOR UPDATE"
_BATCH = f"SELECT FROM file_batches WHERE {_IN_STORE} AND batch_id = $3 FOR UPDATE"
_OF_BATCH = _ATTACHMENTS.format(
    condition=f"attachment IN (SELECT attachment FROM file_batch_members WHERE {_IN_STORE} AND batch_id = $3)"  # noqa: S608
)
# Not FOR KEY SHARE: those who clear a space change the row first.
_RETIREMENTS = f"""
SELECT FROM store_migrations WHERE {_IN_STORE} AND retired_space IS NOT NULL ORDER BY migration_id FOR SHARE
"""
_FILES = """
SELECT file_id FROM files WHERE tenant_id = $1 AND file_id = ANY($2::text[]) ORDER BY file_id FOR KEY SHARE
"""


async def lock_to_write(connection: Any, tenant_id: str, vector_store_id: str) -> Any:
    """Keep the store and its spaces until the end of the transaction. Returns its row, None without a store."""
    return await connection.fetchrow(f"{_STORE} FOR KEY SHARE", tenant_id, vector_store_id)


async def lock_to_change(connection: Any, tenant_id: str, vector_store_id: str) -> Any:
    """Lock the store against all who write to it. Returns its row, None without a store."""
    return await connection.fetchrow(f"{_STORE} FOR UPDATE", tenant_id, vector_store_id)


async def lock_content(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Lock all that is in a store which is locked already, before it is deleted."""
    await connection.execute(_BATCHES, tenant_id, vector_store_id)
    await connection.execute(_MIGRATIONS, tenant_id, vector_store_id)
    await connection.execute(_OF_STORE, tenant_id, vector_store_id)


async def lock_batch(connection: Any, tenant_id: str, vector_store_id: str, batch_id: str) -> None:
    """Lock a batch of a store that is locked already, and the files that it attached."""
    await connection.execute(_BATCH, tenant_id, vector_store_id, batch_id)
    await connection.execute(_OF_BATCH, tenant_id, vector_store_id, batch_id)


async def lock_retirements(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Keep the vectors of a store from being cleared by a migration while its chunks are deleted."""
    await connection.execute(_RETIREMENTS, tenant_id, vector_store_id)


async def lock_attachments_of_file(connection: Any, tenant_id: str, file_id: str) -> None:
    """Lock the file's place in all stores; the file itself is locked already."""
    await connection.execute(_OF_FILE, tenant_id, file_id)


async def lock_files(connection: Any, tenant_id: str, file_ids: Sequence[str]) -> set[str]:
    """Keep files from being deleted before the end of the transaction. Returns those that exist."""
    rows = await connection.fetch(_FILES, tenant_id, list(file_ids))
    return {row["file_id"] for row in rows}


async def lock_attachments(connection: Any, tenant_id: str, vector_store_id: str, file_ids: Sequence[str]) -> None:
    """Lock the places of files in a store."""
    await connection.execute(_OF_FILES, tenant_id, vector_store_id, list(file_ids))
