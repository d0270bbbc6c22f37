"""What is left of a deleted file or vector store, counted anew for each report."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from retrieval.files.model import object_key
from retrieval.files.ports import ObjectStore

# For so long a report can be asked for.
RECORDS_KEPT = timedelta(days=90)
FILE_PREFIX = "file-"


class DeletionNotFound(ArgosyError):
    """No file or vector store of this id was deleted in the last 90 days."""

    kind, reason = Kind.NOT_FOUND, "DELETION_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class Remains:
    """What is left in the database: rows of the file or store itself, of its chunks, and of what was made of them."""

    records: int = 0
    chunks: int = 0
    vectors: int = 0
    postings: int = 0


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What is left of a deleted file or vector store at `checked_at`. A file has one object, its bytes."""

    resource_id: str
    deleted_at: datetime
    checked_at: datetime
    remains: Remains
    objects: int

    @property
    def complete(self) -> bool:
        return self.remains == Remains() and not self.objects


class DeletionRecords(Protocol):
    """Files and stores that were deleted."""

    async def remains(self, tenant_id: str, resource_id: str) -> tuple[datetime, datetime, Remains]:
        """When it was deleted, the time now, and what is left. Raises DeletionNotFound."""

    async def forget(self, older_than: timedelta) -> bool:
        """Forget older deletions of all tenants, a batch of them; False when there may be no more."""


async def deletion_report(
    tenant_id: str, resource_id: str, *, records: DeletionRecords, objects: ObjectStore
) -> DeletionReport:
    """Count what is left of a deleted file or store. Raises DeletionNotFound, Unavailable."""
    deleted_at, checked_at, remains = await records.remains(tenant_id, resource_id)
    found = False
    if resource_id.startswith(FILE_PREFIX):
        found = await objects.exists(object_key(tenant_id, resource_id))
    return DeletionReport(resource_id, deleted_at, checked_at, remains, int(found))
