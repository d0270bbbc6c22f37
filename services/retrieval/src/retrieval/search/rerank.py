"""The best passages of a search, ordered anew by a model that reads the query and each of them together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError

from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder
from retrieval.search.exact import to_wanted
from retrieval.search.model import Passage, Ranker, SearchQuery
from retrieval.search.search import SearchIndex, exact_first, search

INSUFFICIENT_QUOTA = "INSUFFICIENT_QUOTA"
"""Metering's reason."""

RERANKED = 50
"""Passages that are read again: as many as a search may return."""


class Reranker(Protocol):
    """Scores texts for a query."""

    async def rerank(self, query: str, texts: Sequence[str], timeout: timedelta) -> Sequence[float]:
        """One score from 0 to 1 per text. Raises the model's errors, and those of a call that was not in time."""


class Reranking(StrEnum):
    """What became of the second look."""

    DONE = "done"
    SKIPPED = "skipped"
    """The model did not answer, or not in time: the order is that of the search."""
    NO_BUDGET = "no_budget"
    """A budget of the tenant is exhausted: the order is that of the search."""


@dataclass(frozen=True, slots=True)
class RerankPolicy:
    """The reranker, and when it is used."""

    reranker: Reranker
    timeout: timedelta
    by_default: bool = False
    """Also for searches that ask for no ranker."""


async def search_and_rerank(
    tenant_id: str,
    query: SearchQuery,
    policy: RerankPolicy,
    *,
    index: SearchIndex,
    embedder: Embedder,
    counter: TokenCounter,
) -> tuple[list[Passage], Reranking]:
    """The best passages by the reranker's scores, exact hits first; those of the search where it does not answer.

    `min_score` is for the scores that are returned. Raises as `search`.
    """
    wide = replace(query, limit=RERANKED, ranker=Ranker.AUTO, min_score=0.0)
    found = await search(tenant_id, wide, index=index, embedder=embedder, counter=counter)
    if not found:
        return [], Reranking.DONE
    try:
        async with asyncio.timeout(policy.timeout.total_seconds()):
            texts = [passage.source.text for passage in found]
            scores = await policy.reranker.rerank(query.query, texts, policy.timeout)
    except (ArgosyError, TimeoutError) as error:
        return _best(found, query), _why_not(error)
    wanted = to_wanted(query.query)
    exactness = {place: wanted.exactness(passage.source.text) for place, passage in enumerate(found)}
    final = exact_first(dict(enumerate(scores)), exactness)
    order = sorted(final, key=lambda place: -final[place])
    return _best([replace(found[place], score=final[place]) for place in order], query), Reranking.DONE


def _why_not(error: ArgosyError | TimeoutError) -> Reranking:
    exhausted = isinstance(error, ArgosyError) and error.reason == INSUFFICIENT_QUOTA
    return Reranking.NO_BUDGET if exhausted else Reranking.SKIPPED


def _best(passages: Sequence[Passage], query: SearchQuery) -> list[Passage]:
    return [passage for passage in passages if passage.score >= query.min_score][: query.limit]
