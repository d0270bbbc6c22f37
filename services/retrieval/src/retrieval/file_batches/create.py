"""Attaching files to a vector store together."""

from collections.abc import Sequence

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal

from retrieval.file_batches.model import FileBatch
from retrieval.file_batches.ports import FileBatches
from retrieval.vector_stores.create import MAX_FILES_PER_REQUEST
from retrieval.vector_stores.model import FileToAttach


async def create_file_batch(
    principal: Principal, vector_store_id: str, files: Sequence[FileToAttach], *, batches: FileBatches
) -> FileBatch:
    """Attach these files, each once and as it is named last.

    Raises InvalidRequest, VectorStoreNotFound, FileNotFound.
    """
    distinct = {file.file_id: file for file in files}
    if not 1 <= len(distinct) <= MAX_FILES_PER_REQUEST:
        raise InvalidRequest(f"a batch has 1 to {MAX_FILES_PER_REQUEST} files", param="file_ids")
    if any("\0" in file_id for file_id in distinct):
        raise InvalidRequest("an id has no zero character", param="files")
    return await batches.create(principal, vector_store_id, tuple(distinct.values()))
