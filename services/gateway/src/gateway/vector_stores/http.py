"""`/v1/vector_stores`: stores, the files in them, and search."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal

from fastapi import APIRouter, Response

from gateway.domain.knowledge import Attachment, AttachmentState, Knowledge, Passage
from gateway.domain.tenants import Listed

from .ports import NEWEST_FIRST, AnyPage, KnowledgePort, PathId
from .schemas import (
    AttachmentCreate,
    AttachmentRead,
    Deleted,
    ListOf,
    PassageRead,
    SearchCreate,
    SearchPage,
    VectorStoreCreate,
    VectorStoreRead,
)

router = APIRouter(prefix="/v1/vector_stores", tags=["Vector stores"])

# How soon the SDKs' `…_and_poll` ask again; small files are indexed within a second.
POLL_AFTER = {"openai-poll-after-ms": "250"}


@router.post("")
async def create_vector_store(body: VectorStoreCreate, knowledge: KnowledgePort) -> VectorStoreRead:
    """Make a vector store; indexing of its files starts at once."""
    return VectorStoreRead.of(await knowledge.create_vector_store(body.name or "", body.file_ids))


@router.get("", dependencies=[NEWEST_FIRST])
async def list_vector_stores(knowledge: KnowledgePort, page: AnyPage) -> ListOf[VectorStoreRead]:
    """List vector stores, newest first."""
    listed = await knowledge.list_vector_stores(page)
    return ListOf.of((VectorStoreRead.of(store) for store in listed.items), has_more=listed.has_more)


@router.get("/{vector_store_id}")
async def get_vector_store(vector_store_id: PathId, knowledge: KnowledgePort) -> VectorStoreRead:
    """Read a vector store."""
    return VectorStoreRead.of(await knowledge.get_vector_store(vector_store_id))


@router.delete("/{vector_store_id}")
async def delete_vector_store(vector_store_id: PathId, knowledge: KnowledgePort) -> Deleted:
    """Delete a vector store; its files stay."""
    await knowledge.delete_vector_store(vector_store_id)
    return Deleted(id=vector_store_id, object="vector_store.deleted")


@router.post("/{vector_store_id}/files")
async def attach_file(vector_store_id: PathId, body: AttachmentCreate, knowledge: KnowledgePort) -> AttachmentRead:
    """Put a file into a vector store; indexing starts at once. Safe to repeat."""
    return AttachmentRead.of(await knowledge.attach(vector_store_id, body.file_id))


@router.get("/{vector_store_id}/files", dependencies=[NEWEST_FIRST])
async def list_vector_store_files(
    vector_store_id: PathId,
    knowledge: KnowledgePort,
    page: AnyPage,
    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None,  # noqa: A002 - OpenAI's name
) -> ListOf[AttachmentRead]:
    """List the files of a vector store, newest first."""
    if filter == "cancelled":
        await knowledge.get_vector_store(vector_store_id)
        listed: Listed[Attachment] = Listed([])  # nothing is ever cancelled
    else:
        state = AttachmentState(filter) if filter else None
        listed = await knowledge.list_attachments(vector_store_id, page, state)
    return ListOf.of((AttachmentRead.of(attachment) for attachment in listed.items), has_more=listed.has_more)


@router.get("/{vector_store_id}/files/{file_id}")
async def get_vector_store_file(
    vector_store_id: PathId, file_id: PathId, knowledge: KnowledgePort, response: Response
) -> AttachmentRead:
    """Read how far indexing of a file is."""
    attachment = await knowledge.get_attachment(vector_store_id, file_id)
    if attachment.state is AttachmentState.IN_PROGRESS:
        response.headers.update(POLL_AFTER)
    return AttachmentRead.of(attachment)


@router.delete("/{vector_store_id}/files/{file_id}")
async def detach_file(vector_store_id: PathId, file_id: PathId, knowledge: KnowledgePort) -> Deleted:
    """Take a file out of a vector store; the file itself stays."""
    await knowledge.detach(vector_store_id, file_id)
    return Deleted(id=file_id, object="vector_store.file.deleted")


@router.post("/{vector_store_id}/search")
async def search_vector_store(vector_store_id: PathId, body: SearchCreate, knowledge: KnowledgePort) -> SearchPage:
    """Find the best passages, by words and by meaning."""
    found = await search_all(vector_store_id, body.query, body.max_num_results, knowledge=knowledge)
    best = best_of(found)[: body.max_num_results]
    return SearchPage(search_query=body.query, data=[PassageRead.of(passage) for passage in best])


async def search_all(
    vector_store_id: str, queries: Sequence[str], limit: int, *, knowledge: Knowledge
) -> list[Sequence[Passage]]:
    """Ask all queries at once. The first that fails is raised, and stops the others: nobody waits for them."""
    try:
        async with asyncio.TaskGroup() as group:
            searches = [group.create_task(knowledge.search(vector_store_id, query, limit)) for query in queries]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [search.result() for search in searches]


def best_of(found: Iterable[Sequence[Passage]]) -> list[Passage]:
    """Merge what several queries found: each passage once, by its best score."""
    best: dict[tuple[str, int, str], Passage] = {}
    for passages in found:
        for passage in passages:
            place = (passage.file_id, passage.page, passage.text)
            if place not in best or best[place].score < passage.score:
                best[place] = passage
    return sorted(best.values(), key=lambda passage: -passage.score)
