"""What searches in the largest store find, compared with an answer that reads everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chassis.postgres import Database
from chassis.settings import PostgresSection
from retrieval.embeddings.model import Vector, to_floats
from retrieval.search.postgres import PostgresSearchIndex
from retrieval.search.search import CANDIDATES

FIRST = 10
# + 0 keeps the scan from an index.
_EXACT = """
SELECT 1 - (embedding <=> $3::real[]::halfvec) AS score FROM chunks WHERE tenant_id = $1 AND vector_store_id = $2
ORDER BY (embedding <=> $3::real[]::halfvec) + 0 LIMIT $4
"""
SLACK = 1e-6
"""Chunks of equal texts have equal scores, so results are compared by score, but for rounding."""


@dataclass(frozen=True, slots=True)
class Recall:
    """The mean share of the best results, of vectors or of keywords, that a search finds."""

    first: float
    all: float


async def recall(
    section: PostgresSection, store: tuple[str, str], queries: Sequence[tuple[str, str]], chunks: int
) -> tuple[Recall, Recall]:
    """The recall of the search by vector, and of that by keyword."""
    tenant_id, vector_store_id = store
    by_vector, by_keyword = [], []
    async with Database(section, "retrieval") as database:
        index = PostgresSearchIndex(database)
        for query, digits in queries:
            vector = Vector(bytes.fromhex(digits))
            near = await index.vector_search(tenant_id, [vector_store_id], vector, CANDIDATES)
            async with database.tenant(tenant_id) as connection:
                rows: list[Any] = await connection.fetch(
                    _EXACT, tenant_id, vector_store_id, to_floats(vector), CANDIDATES
                )
            by_vector.append(_shares(list(near.values()), [row["score"] for row in rows]))
            read = await index.keyword_search(tenant_id, [vector_store_id], query, CANDIDATES)
            found = await index.keyword_search(tenant_id, [vector_store_id], query, CANDIDATES, chunks=chunks)
            by_keyword.append(_shares(list(found.values()), list(read.values())))
    return _mean(by_vector), _mean(by_keyword)


def _shares(found: list[float], exact: list[float]) -> tuple[float, float]:
    def share(limit: int) -> float:
        worst = exact[:limit][-1] - SLACK
        return sum(score >= worst for score in found[:limit]) / len(exact[:limit])

    return share(FIRST), share(len(exact))


def _mean(shares: list[tuple[float, float]]) -> Recall:
    first, every = (sum(column) / len(shares) for column in zip(*shares, strict=True))
    return Recall(first, every)
