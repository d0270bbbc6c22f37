"""What the file batch feature needs from the database."""

from collections.abc import Sequence
from typing import Protocol

from chassis.tenancy import Principal

from retrieval.file_batches.model import FileBatch
from retrieval.files.page import Page
from retrieval.vector_stores.model import Attachment, AttachmentState, FileToAttach


class FileBatches(Protocol):
    """File batches of vector stores. Every method raises VectorStoreNotFound for an unknown store."""

    async def create(self, principal: Principal, vector_store_id: str, files: Sequence[FileToAttach]) -> FileBatch:
        """Attach all of these files, each at most once, or none. Raises FileNotFound.

        A file that is in the store already is a member too; only its attributes change, when some are given.
        """

    async def get(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        """The batch with its counts. Raises FileBatchNotFound."""

    async def cancel(self, tenant_id: str, vector_store_id: str, batch_id: str) -> FileBatch:
        """Take the files out of the store that this batch attached and that are not indexed. Safe to repeat.

        Raises FileBatchNotFound.
        """

    async def files(
        self,
        tenant_id: str,
        vector_store_id: str,
        batch_id: str,
        *,
        limit: int,
        after: str,
        state: AttachmentState | None,
    ) -> Page[Attachment]:
        """The files of the batch that are in the store, newest first, after the file id `after`.

        Raises FileBatchNotFound, and FileNotFound when `after` is not in the store.
        """
