"""Attachments in Postgres: files come into stores and go, while the stores are in use."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from chassis.kafka import Outbox
from chassis.tenancy import Principal
from values.attributes import Attributes, check_attributes

from retrieval.chunking.splitter import OWN_CHUNKING, Chunking
from retrieval.files.model import file_not_found
from retrieval.locks.postgres import lock_attachments, lock_files, lock_to_change
from retrieval.parsing.model import FileWarning
from retrieval.vector_stores.model import (
    FILE_ATTACHED_TOPIC,
    Attachment,
    AttachmentState,
    FileToAttach,
    not_attached,
    vector_store_expired,
    vector_store_not_found,
)
from retrieval.vector_stores.protos import file_attached_to_proto

# A store whose time is over, whether it is emptied yet or not.
IS_EXPIRED = "(expired_at IS NOT NULL OR last_active_at + make_interval(days => expires_after_days) <= now()) IS TRUE"
# At most once a minute, so that searches do not write; and they do not wait for each other, nor for a deletion.
SET_ACTIVE = """
UPDATE vector_stores SET last_active_at = now() WHERE (tenant_id, vector_store_id) IN (
    SELECT tenant_id, vector_store_id FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[])
       AND last_active_at < now() - interval '1 minute' ORDER BY vector_store_id FOR NO KEY UPDATE SKIP LOCKED)
"""
_LIVE = f"SELECT {IS_EXPIRED} AS expired FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"  # noqa: S608
_EXISTS = "SELECT 1 FROM vector_stores WHERE tenant_id = $1 AND vector_store_id = $2"
_GET_ATTACHMENT = "SELECT * FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3"
_DELETE_FAILED = """
DELETE FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3 AND state = 'failed'
RETURNING *
"""
_ATTACH = """
INSERT INTO attachments (tenant_id, vector_store_id, file_id, project_id, key_id, attributes, max_chunk_tokens,
                         chunk_overlap_tokens, plan)
VALUES ($1, $2, $3, $4, $5, coalesce($6::jsonb, '{}'), $7, $8, $9)
ON CONFLICT DO NOTHING RETURNING attachment, created_at
"""
UPDATE_ATTRIBUTES = """
UPDATE attachments SET attributes = $4::jsonb WHERE tenant_id = $1 AND vector_store_id = $2 AND file_id = $3 RETURNING *
"""
# Deletes attachments and schedules the deletion of their chunks.
_DETACH = """
WITH detached AS (
    DELETE FROM attachments WHERE tenant_id = $1 AND vector_store_id = $2 {condition}
    RETURNING tenant_id, vector_store_id, attachment
), scheduled AS (
    INSERT INTO deletions (tenant_id, deletion_id, vector_store_id, attachment)
    SELECT tenant_id, 'attachment-' || attachment, vector_store_id, attachment FROM detached ON CONFLICT DO NOTHING
)
SELECT count(*) FROM detached
"""


def detach_sql(condition: str) -> str:
    """A statement that detaches the files of store $2 of tenant $1 for which the condition holds."""
    return _DETACH.format(condition=condition)


async def attach_files(
    connection: Any, outbox: Outbox, principal: Principal, vector_store_id: str, files: Sequence[FileToAttach]
) -> list[int | None]:
    """Attach files to a locked store and enqueue their events. Returns the attachments' numbers. Raises FileNotFound.

    None for a file that is attached and has not failed: only its attributes change, when some are given.
    """
    there = await lock_files(connection, principal.tenant_id, [file.file_id for file in files])
    for file in files:
        if file.file_id not in there:
            raise file_not_found(file.file_id)
    numbers: dict[str, int | None] = {}
    # In one order, because two transactions that attach the same new files would wait for each other.
    for file in sorted(files, key=lambda file: file.file_id):
        numbers[file.file_id] = await _attach(connection, outbox, principal, vector_store_id, file)
    attached = [file for file in files if numbers[file.file_id] is None]
    if attached:
        tenant_id = principal.tenant_id
        await lock_attachments(connection, tenant_id, vector_store_id, [file.file_id for file in attached])
        for file in attached:
            numbers[file.file_id] = await _attach_again(connection, outbox, principal, vector_store_id, file)
    return [numbers[file.file_id] for file in files]


async def _attach(
    connection: Any,
    outbox: Outbox,
    principal: Principal,
    vector_store_id: str,
    file: FileToAttach,
    *,
    failed: Any = None,
) -> int | None:
    """Attach a file, as before where it has failed; None where it is in the store."""
    tenant_id = principal.tenant_id
    attributes = None if file.attributes is None else to_json(file.attributes)
    if failed and attributes is None:
        attributes = failed["attributes"]
    chunking = file.chunking or (failed and row_to_chunking(failed)) or OWN_CHUNKING
    split = (chunking.max_tokens, chunking.overlap_tokens)
    values = (principal.project_id, principal.key_id, attributes, *split, principal.plan)
    attached = await connection.fetchrow(_ATTACH, tenant_id, vector_store_id, file.file_id, *values)
    if attached is None:
        return None
    event = file_attached_to_proto(principal, vector_store_id, file.file_id, attached["created_at"])
    await outbox.enqueue(connection, FILE_ATTACHED_TOPIC, tenant_id, event.SerializeToString())
    attachment: int = attached["attachment"]
    return attachment


async def _attach_again(
    connection: Any, outbox: Outbox, principal: Principal, vector_store_id: str, file: FileToAttach
) -> int | None:
    """Attach a file that has failed, or change the attributes of one that has not."""
    key = (principal.tenant_id, vector_store_id, file.file_id)
    failed = await connection.fetchrow(_DELETE_FAILED, *key)
    attachment = await _attach(connection, outbox, principal, vector_store_id, file, failed=failed)
    if attachment is None and file.attributes is not None:
        await connection.execute(UPDATE_ATTRIBUTES, *key, to_json(file.attributes))
    return attachment


def to_json(attributes: Attributes | Mapping[str, str]) -> str:
    """For a parameter of the type jsonb."""
    return orjson.dumps(attributes).decode()


async def check_exists(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Raise VectorStoreNotFound."""
    if not await connection.fetchval(_EXISTS, tenant_id, vector_store_id):
        raise vector_store_not_found(vector_store_id)


async def locked_store(connection: Any, tenant_id: str, vector_store_id: str) -> Any:
    """Lock the store against all who write to it, and return its row. Raises VectorStoreNotFound."""
    row = await lock_to_change(connection, tenant_id, vector_store_id)
    if row is None:
        raise vector_store_not_found(vector_store_id)
    return row


async def check_live(connection: Any, tenant_id: str, vector_store_id: str) -> None:
    """Lock the store against its deletion and its expiry, and note that it is used.

    Raises VectorStoreNotFound, VectorStoreExpired.
    """
    row = await connection.fetchrow(f"{_LIVE} FOR KEY SHARE", tenant_id, vector_store_id)
    if row is None:
        raise vector_store_not_found(vector_store_id)
    if row["expired"]:
        raise vector_store_expired(vector_store_id)
    await connection.execute(SET_ACTIVE, tenant_id, [vector_store_id])


async def attachment_row(
    connection: Any, tenant_id: str, vector_store_id: str, file_id: str, param: str = "file_id"
) -> Any:
    row = await connection.fetchrow(_GET_ATTACHMENT, tenant_id, vector_store_id, file_id)
    if row is None:
        raise not_attached(vector_store_id, file_id, param)
    return row


def row_to_attachment(row: Any) -> Attachment:
    return Attachment(
        vector_store_id=row["vector_store_id"],
        file_id=row["file_id"],
        state=AttachmentState(row["state"]),
        failure_reason=row["failure_reason"],
        failure_message=row["failure_message"],
        chunks=row["chunks"],
        usage_bytes=row["usage_bytes"],
        created_at=row["created_at"],
        warnings=tuple(FileWarning(**item) for item in orjson.loads(row["warnings"])),
        attributes=check_attributes(orjson.loads(row["attributes"])),
        chunking=row_to_chunking(row),
    )


def row_to_chunking(row: Any) -> Chunking | None:
    """None for a file that was attached by an older version."""
    if row["max_chunk_tokens"] is None:
        return None
    return Chunking(row["max_chunk_tokens"], row["chunk_overlap_tokens"])
