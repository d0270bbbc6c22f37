"""What the vector store feature needs from the database."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from chassis.tenancy import Principal
from values.attributes import Attributes

from retrieval.chunking.splitter import Chunking
from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace
from retrieval.files.page import Page
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.vector_stores.model import Attachment, AttachmentState, StoreChanges, VectorStore

NOTHING: Mapping[str, str] = {}


class VectorStores(Protocol):
    """Vector stores and their attachments. Every method raises VectorStoreNotFound for an unknown store."""

    async def create(
        self,
        principal: Principal,
        name: str,
        file_ids: Sequence[str],
        *,
        space: EmbeddingSpace = FIRST_SPACE,
        chunking: Chunking | None = None,
        metadata: Mapping[str, str] = NOTHING,
        expires_after: timedelta | None = None,
        quota: Quota = UNLIMITED,
    ) -> VectorStore:
        """Create a store of this space with these files attached, or nothing.

        Raises FileNotFound, StorageQuotaExceeded.
        """

    async def get(self, tenant_id: str, vector_store_id: str) -> VectorStore:
        """The store with its counts."""

    async def list(self, tenant_id: str, *, limit: int, after: str) -> Page[VectorStore]:
        """Newest first, after the id `after`; an empty string does not restrict."""

    async def update(self, tenant_id: str, vector_store_id: str, changes: StoreChanges) -> VectorStore:
        """Raises VectorStoreExpired for another expiry of a store that has expired."""

    async def expire(self, limit: int) -> int:
        """Empty up to `limit` stores of all tenants whose time is over, and return how many there were."""

    async def delete(self, tenant_id: str, vector_store_id: str) -> None:
        """Delete the store and its attachments, and schedule the deletion of its chunks. Its files stay."""

    async def attach(
        self,
        principal: Principal,
        vector_store_id: str,
        file_id: str,
        *,
        attributes: Attributes | None = None,
        chunking: Chunking | None = None,
    ) -> Attachment:
        """Attach the file and publish the event in one transaction. Raises FileNotFound, VectorStoreExpired.

        Attaching it again changes its attributes, when some are given, and nothing else, unless its ingestion had
        failed: then it starts again, split as is said now, or as it was.
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
