"""What the vector store feature needs from the database."""

from collections.abc import Sequence
from typing import Protocol

from chassis.tenancy import Principal
from values.attributes import Attributes

from retrieval.files.page import Page
from retrieval.vector_stores.model import Attachment, AttachmentState, VectorStore


class VectorStores(Protocol):
    """Vector stores and their attachments. Every method raises VectorStoreNotFound for an unknown store."""

    async def create(self, principal: Principal, name: str, file_ids: Sequence[str]) -> VectorStore:
        """Create a store with these files attached, or nothing. Raises FileNotFound."""

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        """The store with its counts."""

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Page[VectorStore]:
        """Newest first, after the id `after`; an empty string does not restrict."""

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        """Delete the store and its attachments, and schedule the deletion of its chunks. Its files stay."""

    async def attach(
        self, principal: Principal, vector_store_id: str, file_id: str, *, attributes: Attributes | None = None
    ) -> Attachment:
        """Attach the file and publish the event in one transaction. Raises FileNotFound.

        Attaching it again changes its attributes, when some are given, and nothing else, unless its ingestion had
        failed: then it starts again.
        """

    async def update_attachment(
        self, tenant_id: str, vector_store_id: str, file_id: str, attributes: Attributes
    ) -> Attachment:
        """Replace the attributes. Raises FileNotFound when the file is not in the store."""

    async def attachment(self, tenant_id: str, vector_store_id: str, file_id: str) -> Attachment:
        """Raises FileNotFound when the file is not in the store."""

    async def attachments(
        self, tenant_id: str, vector_store_id: str, *, limit: int, after: str, state: AttachmentState | None
    ) -> Page[Attachment]:
        """Newest first, after the file id `after`. Raises FileNotFound when `after` is not in the store."""

    async def detach(self, tenant_id: str, vector_store_id: str, file_id: str) -> None:
        """Delete the attachment and schedule the deletion of its chunks.

        Raises FileNotFound when the file is not in the store.
        """
