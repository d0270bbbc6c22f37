"""Creating, changing and expiring vector stores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal
from values.attributes import check_metadata

from retrieval.chunking.splitter import Chunking
from retrieval.embeddings.model import FIRST_SPACE, EmbeddingSpace
from retrieval.quotas.model import UNLIMITED, Quota
from retrieval.vector_stores.model import EmbeddingModels, StoreChanges, VectorStore
from retrieval.vector_stores.ports import NOTHING, VectorStores

MAX_FILES_PER_REQUEST = 500
MAX_NAME_CHARACTERS = 256
MAX_DAYS = 365
EXPIRED_BATCH = 20
# Migrations have larger numbers.
SPACE_OF_OTHER_MODELS = 1


async def create_vector_store(
    principal: Principal,
    name: str,
    file_ids: Sequence[str],
    *,
    stores: VectorStores,
    space: EmbeddingSpace = FIRST_SPACE,
    chunking: Chunking | None = None,
    metadata: Mapping[str, str] = NOTHING,
    expires_after: timedelta | None = None,
    quota: Quota = UNLIMITED,
) -> VectorStore:
    """Create a store with these files attached, each once.

    Raises InvalidRequest, FileNotFound, StorageQuotaExceeded.
    """
    check_changes(StoreChanges(name, metadata, expires_after))
    distinct = tuple(dict.fromkeys(file_ids))
    if len(distinct) > MAX_FILES_PER_REQUEST:
        raise InvalidRequest(f"at most {MAX_FILES_PER_REQUEST} files at once", param="file_ids")
    return await stores.create(
        principal,
        name,
        distinct,
        space=space,
        chunking=chunking,
        metadata=metadata,
        expires_after=expires_after,
        quota=quota,
    )


def check_changes(changes: StoreChanges) -> StoreChanges:
    """The changes. Raises InvalidRequest for those that cannot be stored."""
    if changes.name is not None and (len(changes.name) > MAX_NAME_CHARACTERS or "\0" in changes.name):
        raise InvalidRequest(f"name may have at most {MAX_NAME_CHARACTERS} characters", param="name")
    if changes.expires_after is not None and not timedelta(0) <= changes.expires_after <= timedelta(days=MAX_DAYS):
        raise InvalidRequest(f"a vector store expires after 1 to {MAX_DAYS} days, or never", param="expires_after")
    if changes.metadata is None:
        return changes
    try:
        return replace(changes, metadata=check_metadata(changes.metadata))
    except ValueError as error:
        raise InvalidRequest(str(error), param="metadata") from error


async def expire_stores(stores: VectorStores, on_expired: Callable[[int], None] = lambda _: None) -> bool:
    """Empty a batch of the stores whose time is over; False when there may be no more."""
    expired = await stores.expire(EXPIRED_BATCH)
    on_expired(expired)
    return expired == EXPIRED_BATCH


def space_of_new_store(model: str, models: EmbeddingModels) -> EmbeddingSpace:
    """Where the vectors of a new store are. Raises InvalidRequest for a model that stores may not have."""
    name = models.checked(model)
    # By the number alone the database knows which stores a replica of before spaces may fill.
    return EmbeddingSpace(name, 0 if name == models.own else SPACE_OF_OTHER_MODELS)
