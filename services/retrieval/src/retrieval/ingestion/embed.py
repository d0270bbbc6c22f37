"""Embedding chunks: each text once per tenant, with retries."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from chassis.errors import ArgosyError
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from retrieval.chunking.splitter import Chunk
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder, Vector, fingerprint
from retrieval.ingestion.merged_calls import MergedCalls
from retrieval.ingestion.model import Claim, EmbeddedChunk, is_transient
from retrieval.ingestion.ports import IngestionStore
from retrieval.ingestion.windows import READ_TOKENS, mean_vector, split_into_windows

# Texts of one call. A batch of large chunks has hundreds of windows, which one call would take too long for.
MAX_TEXTS = 64


@dataclass(frozen=True)
class ChunkEmbedder:
    store: IngestionStore
    embedder: Embedder
    signer: PrincipalSigner
    counter: TokenCounter
    max_attempts: int = 4
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def embed(self, claim: Claim, batch: Sequence[Chunk]) -> tuple[list[EmbeddedChunk], int]:
        """The chunks with their vectors, and how many vectors were reused from equal texts of the tenant."""
        fingerprints = [fingerprint(self.embedder.model, chunk.text) for chunk in batch]
        vectors = await self.store.known_vectors(claim.key.tenant_id, fingerprints)
        missing = {key: chunk.text for key, chunk in zip(fingerprints, batch, strict=True) if key not in vectors}
        if missing:
            new_vectors = await self._embed_all_of(claim, list(missing.values()))
            vectors |= dict(zip(missing, new_vectors, strict=True))
        embedded = [EmbeddedChunk(chunk, key, vectors[key]) for key, chunk in zip(fingerprints, batch, strict=True)]
        return embedded, len(batch) - len(missing)

    async def _embed_all_of(self, claim: Claim, texts: list[str]) -> list[Vector]:
        """A vector for each text, of all of it: the mean of those of its windows, where it has several."""
        if claim.chunking.max_tokens <= READ_TOKENS:
            return await self._embed(claim.principal, texts)
        windows = [split_into_windows(text, self.counter) for text in texts]
        flat = [window for of_text in windows for window in of_text]
        vectors: list[Vector] = []
        for start in range(0, len(flat), MAX_TEXTS):
            vectors += await self._embed(claim.principal, flat[start : start + MAX_TEXTS])
        following = iter(vectors)
        return [mean_vector([next(following) for _ in of_text]) for of_text in windows]

    async def _embed(self, principal: Principal, texts: list[str]) -> list[Vector]:
        """Embed as the principal that attached the file, which pays.

        Transient errors are retried here, because a new run has to parse the file again.
        """
        for attempt in range(1, self.max_attempts + 1):
            try:
                return await self._calls.embed(principal, texts)
            except ArgosyError as error:
                if attempt == self.max_attempts or not is_transient(error):
                    raise
                await self.sleep(_retry_delay_seconds(error, attempt))
        raise AssertionError("unreachable")

    @cached_property
    def _calls(self) -> MergedCalls:
        return MergedCalls(self._embed_as)

    async def _embed_as(self, principal: Principal, texts: list[str]) -> list[Vector]:
        with as_caller(Caller(principal, self.signer.sign(principal), new_id("req_"))):
            return await self.embedder.embed(texts)


def _retry_delay_seconds(error: ArgosyError, attempt: int) -> float:
    retry_after = error.retry_after.total_seconds() if error.retry_after else 0.0
    return max(retry_after, random.uniform(0.5, 1.0) * 2.0**attempt)  # noqa: S311 - jitter
