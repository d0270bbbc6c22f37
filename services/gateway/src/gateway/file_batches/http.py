"""`/v1/vector_stores/{id}/file_batches`: files that are put into a vector store together."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response

from gateway.file_batches.retrieval_client import FileBatchesClient
from gateway.file_batches.schemas import FileBatchCreate, FileBatchRead
from gateway.flags.http import requires_feature
from gateway.vector_stores.http import POLL_AFTER
from gateway.vector_stores.schemas import AttachmentRead
from gateway.web.dependencies import NEWEST_FIRST, PageQuery, PathId, provided
from gateway.web.schemas import ListResponse

router = APIRouter(
    prefix="/v1/vector_stores/{vector_store_id}/file_batches",
    tags=["Vector stores"],
    dependencies=[Depends(requires_feature("vector_stores"))],
)

FileBatches = Annotated[FileBatchesClient, Depends(provided(FileBatchesClient))]


@router.post("")
async def create_file_batch(vector_store_id: PathId, body: FileBatchCreate, file_batches: FileBatches) -> FileBatchRead:
    """Put up to 500 files into a vector store at once, all or none, and start to index them.

    Of a file that is in the vector store already only the attributes change, when some are given; one that could not be
    indexed is tried again.
    """
    return await file_batches.create(vector_store_id, body.all_files())


@router.get("/{batch_id}")
async def get_file_batch(
    vector_store_id: PathId, batch_id: PathId, file_batches: FileBatches, response: Response
) -> FileBatchRead:
    """Read how many files of a batch are indexed.

    A batch is `completed` once no file of it is waiting; `file_counts.failed` tells how many could not be indexed.
    """
    batch = await file_batches.get(vector_store_id, batch_id)
    if batch.status == "in_progress":
        response.headers.update(POLL_AFTER)
    return batch


@router.post("/{batch_id}/cancel")
async def cancel_file_batch(vector_store_id: PathId, batch_id: PathId, file_batches: FileBatches) -> FileBatchRead:
    """Take the files of a batch that are not indexed yet out of the vector store.

    Indexed files stay, and so do files that the batch did not attach. Idempotent; it does not change a batch that is
    completed.
    """
    return await file_batches.cancel(vector_store_id, batch_id)


@router.get("/{batch_id}/files", dependencies=[NEWEST_FIRST])
async def list_file_batch_files(
    vector_store_id: PathId,
    batch_id: PathId,
    file_batches: FileBatches,
    page: PageQuery,
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None,  # noqa: A002 - OpenAI's name
) -> ListResponse[AttachmentRead]:
    """List the files of a batch that are in the vector store, newest first. Cancelled files are not."""
    if filter == "cancelled":
        await file_batches.get(vector_store_id, batch_id)
        return ListResponse.of([])
    return await file_batches.list_files(vector_store_id, batch_id, page, filter)
