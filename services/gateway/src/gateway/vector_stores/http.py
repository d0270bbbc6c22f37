"""`/v1/vector_stores`: vector stores, the files in them, and search."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Response

from gateway.flags.http import requires_feature
from gateway.vector_stores.retrieval_client import VectorStoresClient, search_options
from gateway.vector_stores.schemas import (
    AttachmentCreate,
    AttachmentRead,
    AttachmentUpdate,
    SearchCreate,
    SearchPage,
    VectorStoreCreate,
    VectorStoreRead,
    VectorStoreUpdate,
)
from gateway.web.dependencies import NEWEST_FIRST, PageQuery, PathId, provided
from gateway.web.schemas import DeletedResponse, ListResponse

router = APIRouter(
    prefix="/v1/vector_stores", tags=["Vector stores"], dependencies=[Depends(requires_feature("vector_stores"))]
)

VectorStores = Annotated[VectorStoresClient, Depends(provided(VectorStoresClient))]

# How soon the SDKs' `…_and_poll` ask again; small files are indexed within a second.
POLL_AFTER = {"openai-poll-after-ms": "250"}


@router.post("")
async def create_vector_store(body: VectorStoreCreate, vector_stores: VectorStores) -> VectorStoreRead:
    """Create a vector store, and start to index its files."""
    return await vector_stores.create(body)


@router.get("", dependencies=[NEWEST_FIRST])
async def list_vector_stores(vector_stores: VectorStores, page: PageQuery) -> ListResponse[VectorStoreRead]:
    """List vector stores, newest first."""
    return await vector_stores.list(page)


@router.get("/{vector_store_id}")
async def get_vector_store(vector_store_id: PathId, vector_stores: VectorStores) -> VectorStoreRead:
    """Read a vector store."""
    return await vector_stores.get(vector_store_id)


@router.post("/{vector_store_id}")
async def update_vector_store(
    vector_store_id: PathId, body: VectorStoreUpdate, vector_stores: VectorStores
) -> VectorStoreRead:
    """Change the name, the metadata or the expiry of a vector store. One that has expired keeps its expiry."""
    return await vector_stores.update(vector_store_id, body)


@router.delete("/{vector_store_id}")
async def delete_vector_store(vector_store_id: PathId, vector_stores: VectorStores) -> DeletedResponse:
    """Delete a vector store, but not its files."""
    await vector_stores.delete(vector_store_id)
    return DeletedResponse(id=vector_store_id, object="vector_store.deleted")


@router.post("/{vector_store_id}/files")
async def attach_file(vector_store_id: PathId, body: AttachmentCreate, vector_stores: VectorStores) -> AttachmentRead:
    """Put a file into a vector store, and start to index it. Idempotent."""
    return await vector_stores.attach(vector_store_id, body)


@router.get("/{vector_store_id}/files", dependencies=[NEWEST_FIRST])
async def list_vector_store_files(
    vector_store_id: PathId,
    vector_stores: VectorStores,
    page: PageQuery,
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None,  # noqa: A002 - OpenAI's name
) -> ListResponse[AttachmentRead]:
    """List the files of a vector store, newest first."""
    if filter == "cancelled":  # a status of OpenAI's that no file here ever has
        await vector_stores.get(vector_store_id)
        return ListResponse.of([])
    return await vector_stores.list_attachments(vector_store_id, page, filter)


@router.get("/{vector_store_id}/files/{file_id}")
async def get_vector_store_file(
    vector_store_id: PathId, file_id: PathId, vector_stores: VectorStores, response: Response
) -> AttachmentRead:
    """Read the indexing status of a file."""
    attachment = await vector_stores.get_attachment(vector_store_id, file_id)
    if attachment.status == "in_progress":
        response.headers.update(POLL_AFTER)
    return attachment


@router.post("/{vector_store_id}/files/{file_id}")
async def update_vector_store_file(
    vector_store_id: PathId, file_id: PathId, body: AttachmentUpdate, vector_stores: VectorStores
) -> AttachmentRead:
    """Replace the attributes of a file. It is not indexed again."""
    return await vector_stores.update_attachment(vector_store_id, file_id, body.attributes or {})


@router.delete("/{vector_store_id}/files/{file_id}")
async def detach_file(vector_store_id: PathId, file_id: PathId, vector_stores: VectorStores) -> DeletedResponse:
    """Remove a file from a vector store, but do not delete it."""
    await vector_stores.detach(vector_store_id, file_id)
    return DeletedResponse(id=file_id, object="vector_store.file.deleted")


@router.post("/{vector_store_id}/search")
async def search_vector_store(vector_store_id: PathId, body: SearchCreate, vector_stores: VectorStores) -> SearchPage:
    """Find the best passages, by keywords and by vectors.

    `filters` choose files by their attributes, before the search: the best passages of the chosen files are found,
    however few these are. Several queries are searched for at once, and each passage has its best score.
    """
    options = search_options(body.filters, body.ranking_options, body.max_num_results)
    passages, notes = await vector_stores.search(vector_store_id, body.query, options)
    return SearchPage(search_query=body.query, data=list(passages), argosy=notes)
