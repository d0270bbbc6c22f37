"""Vector search among the files that a filter allows.

An HNSW index knows no attributes: behind a filter that allows one file in a thousand it finds a few of the nearest
chunks, or none. So the files are counted first. The chunks of few are all compared with the vector. Of many, an index
that goes on until it has enough allowed chunks finds the nearest; where it gives up, all allowed chunks are compared.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from values.attributes import Filter

from retrieval.embeddings.model import EmbeddingSpace, Vector, to_floats
from retrieval.search.conditions import to_condition
from retrieval.search.spaces import vectors_of

# Compared one by one in some tens of milliseconds.
MAX_EXACT_CHUNKS = 20_000

# IS TRUE keeps it a lookup in a hash table for each row, so that rows come in the order of an index.
ALLOWED = "(attachment IN (SELECT attachment FROM allowed)) IS TRUE"
# Attachments with chunks to delete are not completed, or are no longer there, so a filter does not allow them.
_ALLOWED_ATTACHMENTS = """
SELECT vector_store_id, attachment, chunks, lexeme_count FROM attachments
WHERE tenant_id = $1 AND vector_store_id = ANY($2::text[]) AND state = 'completed' AND {condition}
"""
# The chunks of some attachments, one after the other. OFFSET keeps it a loop: the planner knows too little about a
# tenant to choose between that and reading the table.
SEARCH_ATTACHMENTS = """
SELECT near.vector_store_id, near.attachment, near.ordinal, 1 - near.distance AS score
FROM unnest($2::text[], $3::bigint[]) AS allowed (vector_store_id, attachment)
CROSS JOIN LATERAL (
    SELECT vector_store_id, attachment, ordinal, embedding <=> $4::real[]::halfvec AS distance FROM {vectors}
    WHERE tenant_id = (SELECT $1::text) AND vector_store_id = allowed.vector_store_id
      AND attachment = allowed.attachment OFFSET 0
) AS near
ORDER BY near.distance, near.attachment, near.ordinal LIMIT $5
"""
# One branch per store: the planner uses a store's partial HNSW index only for a condition on that store alone.
_SEARCH_STORE = """
(SELECT vector_store_id, attachment, ordinal, embedding <=> $3::real[]::halfvec AS distance FROM {vectors}
 WHERE tenant_id = $1 AND vector_store_id = ${parameter} AND {allowed}
 ORDER BY (embedding <=> $3::real[]::halfvec) {exactly} LIMIT $4)
"""


def allowed_attachments(condition: str) -> str:
    """The common table expression `allowed`. The condition's parameters are behind those of the statement."""
    return f"allowed AS MATERIALIZED ({_ALLOWED_ATTACHMENTS.format(condition=condition)})"


def search_stores_sql(vectors: Sequence[str], condition: str, *, exactly: bool) -> str:
    """The nearest allowed chunks of stores whose ids are the parameters from $5 on, and that have these vectors.

    An index orders by the distance itself. `exactly` orders by an expression of it, so that none is used.
    """
    branches = [
        _SEARCH_STORE.format(parameter=5 + n, vectors=own, allowed=ALLOWED, exactly="+ 0" if exactly else "")
        for n, own in enumerate(vectors)
    ]
    return (
        f"WITH {allowed_attachments(condition)}"  # noqa: S608 - constants
        " SELECT vector_store_id, attachment, ordinal, 1 - distance AS score"
        f" FROM ({' UNION ALL '.join(branches)}) AS near ORDER BY distance, attachment, ordinal LIMIT $4"
    )


@dataclass(frozen=True)
class FilteredVectorSearch:
    """A search in a transaction of the tenant. `connection` is that of a Database."""

    connection: Any
    tenant_id: str
    vector_store_ids: Sequence[str]
    filters: Filter
    max_exact_chunks: int = MAX_EXACT_CHUNKS
    spaces: Mapping[str, EmbeddingSpace] = field(default_factory=dict)

    async def vector_search(self, vector: Vector, limit: int) -> Sequence[Any]:
        """Rows with the key and the score of each chunk, nearest first; as many as there are, up to the limit."""
        allowed = await self._allowed_attachments()
        if allowed is not None:
            return await self._search_attachments(allowed, vector, limit)
        found = await self._search_stores(vector, limit, exactly=False)
        # There are more chunks than that, so the index has given up.
        return found if len(found) == limit else await self._search_stores(vector, limit, exactly=True)

    async def _search_attachments(self, allowed: Sequence[Any], vector: Vector, limit: int) -> Sequence[Any]:
        by_vectors: defaultdict[str, list[Any]] = defaultdict(list)
        for row in allowed:
            by_vectors[vectors_of(self.spaces.get(row["vector_store_id"]), vector)].append(row)
        found: list[Any] = []
        for vectors, rows in by_vectors.items():
            stores, attachments = [row["vector_store_id"] for row in rows], [row["attachment"] for row in rows]
            values = (self.tenant_id, stores, attachments, to_floats(vector), limit)
            found += await self.connection.fetch(SEARCH_ATTACHMENTS.format(vectors=vectors), *values)
        return sorted(found, key=lambda row: (-row["score"], row["attachment"], row["ordinal"]))[:limit]

    async def _allowed_attachments(self) -> Sequence[Any] | None:
        """None when they have too many chunks."""
        condition, values = to_condition(self.filters, 3)
        # An attachment has a chunk at least.
        statement = f"{_ALLOWED_ATTACHMENTS.format(condition=condition)} LIMIT {self.max_exact_chunks + 1}"
        rows = await self.connection.fetch(statement, self.tenant_id, list(self.vector_store_ids), *values)
        sizes = accumulate(row["chunks"] for row in rows)
        return None if any(size > self.max_exact_chunks for size in sizes) else rows

    async def _search_stores(self, vector: Vector, limit: int, *, exactly: bool) -> Sequence[Any]:
        stores = self.vector_store_ids
        condition, values = to_condition(self.filters, 5 + len(stores))
        vectors = [vectors_of(self.spaces.get(store), vector) for store in stores]
        statement = search_stores_sql(vectors, condition, exactly=exactly)
        arguments = (self.tenant_id, list(stores), to_floats(vector), limit, *stores, *values)
        rows: Sequence[Any] = await self.connection.fetch(statement, *arguments)
        return rows
