"""Attaching files to a vector store together."""

from collections.abc import Sequence

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal

from retrieval.file_batches.model import FileBatch
from retrieval.file_batches.ports import FileBatches
from retrieval.vector_stores.create import MAX_FILES_PER_REQUEST


async def create_file_batch(
    principal: Principal, vector_store_id: str, file_ids: Sequence[str], *, batches: FileBatches
) -> FileBatch:
    """Attach these files, each once. Raises InvalidRequest, VectorStoreNotFound, FileNotFound, TooManyFileBatches."""
    distinct = tuple(dict.fromkeys(file_ids))
    if not 1 <= len(distinct) <= MAX_FILES_PER_REQUEST:
        raise InvalidRequest(f"a batch has 1 to {MAX_FILES_PER_REQUEST} files", param="file_ids")
    return await batches.create(principal, vector_store_id, distinct)
