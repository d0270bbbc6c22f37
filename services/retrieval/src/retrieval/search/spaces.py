"""Where a search reads the vectors of a store: in the rows of its chunks, or in those of another space."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from types import MappingProxyType

from retrieval.embeddings.model import EmbeddingSpace, Vector
from retrieval.search.model import ChunkKey

# Of stores that have the service's own model and were never migrated.
FIRST_SPACES: Mapping[str, EmbeddingSpace] = MappingProxyType({})
_FIRST_SPACE_VECTORS = "chunks"
# Numbers come from the database, and stand in the statement for the sake of the plan: a partial index matches values.
_SPACE_VECTORS = """
(SELECT tenant_id, vector_store_id, attachment, ordinal, embedding::halfvec({dimensions}) AS embedding
 FROM chunk_vectors WHERE space = {space}) AS vectors
"""


def number_of(space: EmbeddingSpace | None) -> int:
    """The number of the space of a store; None stands for the first one."""
    return space.number if space else 0


def vectors_of(space: EmbeddingSpace | None, vector: Vector) -> str:
    """What a search by this vector reads in a store of this space."""
    if not number_of(space):
        return _FIRST_SPACE_VECTORS
    return _SPACE_VECTORS.format(space=int(number_of(space)), dimensions=len(vector) // 4)


def keys_by_space(keys: Collection[ChunkKey], spaces: Mapping[str, EmbeddingSpace]) -> dict[int, list[ChunkKey]]:
    """The keys by the number of the space that their store has, in their order."""
    grouped: defaultdict[int, list[ChunkKey]] = defaultdict(list)
    for key in keys:
        grouped[number_of(spaces.get(key.vector_store_id))].append(key)
    return grouped


def keys_to_columns(keys: Collection[ChunkKey]) -> tuple[list[str], list[int], list[int]]:
    """For parameters of unnest: stores, attachments, ordinals."""
    return (
        [key.vector_store_id for key in keys],
        [key.attachment for key in keys],
        [key.ordinal for key in keys],
    )
