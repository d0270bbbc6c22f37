"""Indexes a data set as the service does, searches it, and measures the rankings."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import TypeAlias

from chassis.testing import a_principal
from retrieval.chunking.splitter import Chunk, Splitter
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder, Vector, fingerprint
from retrieval.ingestion.model import EmbeddedChunk
from retrieval.parsing.model import Block
from retrieval.search.model import ChunkKey, SearchQuery
from retrieval.search.search import CANDIDATES, search

from services.retrieval.tests.quality.beir import Dataset
from services.retrieval.tests.quality.measures import DEPTH, ndcg, recall
from services.retrieval.tests.tenants import LONG, Tenant

# A document may have several passages among the best; so many give ten documents.
PASSAGES = 50

Ranking: TypeAlias = Callable[[str], Awaitable[list[str]]]


@dataclass(slots=True)
class Figures:
    """Of one way to search. Times in milliseconds, without embedding the query."""

    ndcg: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    milliseconds: list[float] = field(default_factory=list)

    def row(self) -> str:
        times = sorted(self.milliseconds)
        p50, p95 = times[len(times) // 2], times[min(int(len(times) * 0.95), len(times) - 1)]
        return f"{fmean(self.ndcg):>9.3f}{fmean(self.recall):>11.3f}{p50:>9.1f}{p95:>9.1f}"


@dataclass(frozen=True)
class Indexed:
    """A data set in a store, with the vectors of its queries."""

    tenant: Tenant
    vector_store_id: str
    document_ids: Mapping[int, str]
    embedder: Embedder
    counter: TokenCounter

    async def both(self, query: str) -> list[str]:
        """As the service searches. Passages name their file."""
        passages = await search(
            self.tenant.tenant_id,
            SearchQuery((self.vector_store_id,), query, PASSAGES),
            index=self.tenant.ports.index,
            embedder=self.embedder,
            counter=self.counter,
        )
        return list(dict.fromkeys(passage.source.filename for passage in passages))

    async def keywords(self, query: str) -> list[str]:
        index, tenant_id, stores = self.tenant.ports.index, self.tenant.tenant_id, [self.vector_store_id]
        contents = await index.contents(tenant_id, stores)
        return self._documents(await index.keyword_search(tenant_id, stores, query, CANDIDATES, chunks=contents.chunks))

    async def vectors(self, query: str) -> list[str]:
        [vector] = await self.embedder.embed([query])
        return self._documents(
            await self.tenant.ports.index.vector_search(
                self.tenant.tenant_id, [self.vector_store_id], vector, CANDIDATES
            )
        )

    def _documents(self, keys: Iterable[ChunkKey]) -> list[str]:
        return list(dict.fromkeys(self.document_ids[key.attachment] for key in keys))


class RememberingEmbedder:
    """Embeds each text once, so that times are those of the search."""

    def __init__(self, embedder: Embedder) -> None:
        self.model = embedder.model
        self._embedder = embedder
        self._known: dict[str, Vector] = {}

    def of(self, model: str) -> Embedder:
        raise AssertionError(f"no store has the model {model!r}")

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        if missing := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(missing, await self._embedder.embed(missing), strict=True))
        return [self._known[text] for text in texts]


async def index(dataset: Dataset, tenant: Tenant, embedder: Embedder, counter: TokenCounter) -> Indexed:
    """Index each document as a file of its own, named by its id."""
    embedder = RememberingEmbedder(embedder)
    store = await tenant.store()
    document_ids: dict[int, str] = {}
    for document_id, text in dataset.documents.items():
        splitter = Splitter(counter)
        chunks = [*splitter.feed(Block(0, text)), *splitter.finish()]
        if chunks:
            number = await _index_file(tenant, store.vector_store_id, document_id, chunks, embedder)
            document_ids[number] = document_id
    return Indexed(tenant, store.vector_store_id, document_ids, embedder, counter)


async def _index_file(
    tenant: Tenant, vector_store_id: str, name: str, chunks: Sequence[Chunk], embedder: Embedder
) -> int:
    """Returns the number of the attachment."""
    file, ingestion = await tenant.file(name), tenant.ports.ingestion_store
    await tenant.ports.stores.attach(a_principal(tenant.tenant_id), vector_store_id, file.file_id)
    claim = await tenant.claim(vector_store_id, file.file_id)
    vectors = await embedder.embed([chunk.text for chunk in chunks])
    embedded = [
        EmbeddedChunk(chunk, fingerprint(embedder.model, chunk.text), vector)
        for chunk, vector in zip(chunks, vectors, strict=True)
    ]
    await ingestion.add_chunks(claim, embedded, LONG)
    while await ingestion.index_keywords(claim, LONG):
        pass
    await ingestion.complete(claim)
    return claim.attachment


async def measure(dataset: Dataset, rank: Ranking, embedder: Embedder) -> Figures:
    """The figures of one way to search over all queries, one after the other."""
    figures = Figures()
    for query_id, query in dataset.queries.items():
        await embedder.embed([query])
        started = time.perf_counter()
        found = await rank(query)
        figures.milliseconds.append((time.perf_counter() - started) * 1000)
        # In some sets the queries are documents, too: finding oneself is no answer.
        ranking = [document for document in found if document != query_id]
        figures.ndcg.append(ndcg(ranking, dataset.grades[query_id]))
        figures.recall.append(recall(ranking, dataset.grades[query_id]))
    return figures


async def report(dataset: Dataset, indexed: Indexed) -> str:
    """A table of the ways to search."""
    header = f"{'':<14}{f'nDCG@{DEPTH}':>9}{f'recall@{DEPTH}':>11}{'p50 ms':>9}{'p95 ms':>9}"
    rows = [
        f"{name:<14}{(await measure(dataset, rank, indexed.embedder)).row()}"
        for name, rank in (
            ("search", indexed.both),
            ("keywords only", indexed.keywords),
            ("vectors only", indexed.vectors),
        )
    ]
    size = f"{len(dataset.documents)} documents, {len(dataset.queries)} queries"
    return "\n".join([size, *dataset.notes, header, *rows])
