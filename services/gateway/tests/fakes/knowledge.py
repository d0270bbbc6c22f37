"""Retrieval in memory: files and stores of each tenant."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from chassis.errors import Kind, RemoteError
from chassis.ids import new_id
from chassis.tenancy import current_caller
from gateway.domain.knowledge import Attachment, AttachmentState, File, Passage, VectorStore
from gateway.domain.tenants import Listed, Page

from services.gateway.tests.fakes.directory import listed

MADE = datetime(2026, 1, 2, tzinfo=UTC)


def no_file() -> RemoteError:
    return RemoteError(Kind.NOT_FOUND, "FILE_NOT_FOUND", "There is no such file.")


def no_store() -> RemoteError:
    return RemoteError(Kind.NOT_FOUND, "VECTOR_STORE_NOT_FOUND", "There is no such vector store.")


@dataclass
class Shelf:
    """What one tenant has."""

    files: dict[str, File] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    stores: dict[str, VectorStore] = field(default_factory=dict)
    attachments: dict[tuple[str, str], Attachment] = field(default_factory=dict)


class FakeKnowledge:
    """`Knowledge`. A file is indexed when it has been asked for once; one named bad.* fails."""

    def __init__(self) -> None:
        self.shelves: dict[str, Shelf] = {}
        self.largest_piece = 0
        self.cut_downloads = False
        self.found: dict[str, Sequence[Passage]] = {}

    @property
    def mine(self) -> Shelf:
        return self.shelves.setdefault(current_caller().principal.tenant_id, Shelf())

    async def upload(self, filename: str, purpose: str, content: AsyncIterator[bytes]) -> File:
        shelf, held = self.mine, bytearray()
        async for piece in content:
            self.largest_piece = max(self.largest_piece, len(piece))
            held += piece
        file = File(new_id("file-"), filename, purpose, len(held), MADE)
        shelf.files[file.file_id], shelf.contents[file.file_id] = file, bytes(held)
        return file

    async def list_files(self, page: Page, purpose: str) -> Listed[File]:
        files = [file for file in self.mine.files.values() if purpose in ("", file.purpose)]
        return listed(files, page, lambda file: file.file_id)

    async def get_file(self, file_id: str) -> File:
        if file_id not in self.mine.files:
            raise no_file()
        return self.mine.files[file_id]

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        await self.get_file(file_id)
        content = self.mine.contents[file_id]
        yield content[:2]
        if self.cut_downloads:
            raise RemoteError(Kind.UNAVAILABLE, "SERVICE_UNAVAILABLE", "The store went away.")
        yield content[2:]

    async def delete_file(self, file_id: str) -> None:
        await self.get_file(file_id)
        del self.mine.files[file_id]

    async def create_vector_store(self, name: str, file_ids: Sequence[str]) -> VectorStore:
        for file_id in file_ids:
            await self.get_file(file_id)
        store = VectorStore(new_id("vs_"), name, MADE, 0, 0, 0, 0)
        self.mine.stores[store.vector_store_id] = store
        for file_id in file_ids:
            await self.attach(store.vector_store_id, file_id)
        return await self.get_vector_store(store.vector_store_id)

    async def list_vector_stores(self, page: Page) -> Listed[VectorStore]:
        stores = [await self.get_vector_store(store_id) for store_id in self.mine.stores]
        return listed(stores, page, lambda store: store.vector_store_id)

    async def get_vector_store(self, vector_store_id: str) -> VectorStore:
        if vector_store_id not in self.mine.stores:
            raise no_store()
        states = [a.state for (store, _), a in self.mine.attachments.items() if store == vector_store_id]
        return replace(
            self.mine.stores[vector_store_id],
            in_progress=states.count(AttachmentState.IN_PROGRESS),
            completed=states.count(AttachmentState.COMPLETED),
            failed=states.count(AttachmentState.FAILED),
        )

    async def delete_vector_store(self, vector_store_id: str) -> None:
        await self.get_vector_store(vector_store_id)
        del self.mine.stores[vector_store_id]

    async def attach(self, vector_store_id: str, file_id: str) -> Attachment:
        await self.get_vector_store(vector_store_id)
        await self.get_file(file_id)
        made = Attachment(vector_store_id, file_id, AttachmentState.IN_PROGRESS, "", "", 0, MADE, 0)
        return self.mine.attachments.setdefault((vector_store_id, file_id), made)

    async def get_attachment(self, vector_store_id: str, file_id: str) -> Attachment:
        await self.get_vector_store(vector_store_id)
        shelf, place = self.mine, (vector_store_id, file_id)
        if place not in shelf.attachments:
            raise no_file()
        before = shelf.attachments[place]
        if shelf.files[file_id].filename.startswith("bad."):
            shelf.attachments[place] = replace(
                before,
                state=AttachmentState.FAILED,
                failure_reason="UNREADABLE_FILE",
                failure_message="The file cannot be read.",
            )
        else:
            shelf.attachments[place] = replace(before, state=AttachmentState.COMPLETED, chunks=3, usage_bytes=90)
        return before

    async def list_attachments(
        self, vector_store_id: str, page: Page, state: AttachmentState | None
    ) -> Listed[Attachment]:
        await self.get_vector_store(vector_store_id)
        attached = [a for (store, _), a in self.mine.attachments.items() if store == vector_store_id]
        return listed([a for a in attached if state in (None, a.state)], page, lambda a: a.file_id)

    async def detach(self, vector_store_id: str, file_id: str) -> None:
        await self.get_vector_store(vector_store_id)
        if self.mine.attachments.pop((vector_store_id, file_id), None) is None:
            raise no_file()

    async def search(self, vector_store_id: str, query: str, limit: int) -> Sequence[Passage]:
        await self.get_vector_store(vector_store_id)
        return self.found.get(query, ())[:limit]
