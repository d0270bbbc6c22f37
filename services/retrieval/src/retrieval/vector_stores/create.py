"""Creating a vector store."""

from collections.abc import Sequence

from chassis.errors import InvalidRequest
from chassis.tenancy import Principal

from retrieval.vector_stores.model import VectorStore
from retrieval.vector_stores.ports import VectorStores

MAX_FILES_PER_REQUEST = 500
MAX_NAME_CHARACTERS = 256


async def create_vector_store(
    principal: Principal, name: str, file_ids: Sequence[str], *, stores: VectorStores
) -> VectorStore:
    """Create a store with these files attached, each once. Raises InvalidRequest, FileNotFound."""
    if len(name) > MAX_NAME_CHARACTERS or "\0" in name:
        raise InvalidRequest(f"name may have at most {MAX_NAME_CHARACTERS} characters", param="name")
    distinct = tuple(dict.fromkeys(file_ids))
    if len(distinct) > MAX_FILES_PER_REQUEST:
        raise InvalidRequest(f"at most {MAX_FILES_PER_REQUEST} files at once", param="file_ids")
    return await stores.create(principal, name, distinct)
