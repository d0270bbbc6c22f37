"""Embedding texts for a vector store: each text once per tenant and model, with retries."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from chassis.errors import ArgosyError
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from retrieval.chunking.splitter import Chunk
from retrieval.chunking.token_counter import TokenCounter
from retrieval.embeddings.model import Embedder, Vector, embedder_of, fingerprint
from retrieval.ingestion.merged_calls import MergedCalls
from retrieval.ingestion.model import Claim, EmbeddedChunk, TextVector, is_transient
from retrieval.ingestion.ports import KnownVectors
from retrieval.ingestion.windows import READ_TOKENS, mean_vector, split_into_windows

# Texts of one call. A batch of large chunks has hundreds of windows, which one call would take too long for.
MAX_TEXTS = 64


@dataclass(frozen=True)
class ChunkEmbedder:
    store: KnownVectors
    embedder: Embedder
    signer: PrincipalSigner
    counter: TokenCounter
    max_attempts: int = 4
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def embed(self, claim: Claim, batch: Sequence[Chunk]) -> tuple[list[EmbeddedChunk], int]:
        """The chunks with their vectors, and how many vectors were reused from equal texts of the tenant."""
        texts = [chunk.text for chunk in batch]
        vectors, reused = await self.text_vectors(claim.principal, claim.space.model, texts, claim.chunking.max_tokens)
        following = await self._following(claim, texts)
        embedded = [
            EmbeddedChunk(chunk, own.fingerprint, own.vector, next_one)
            for chunk, own, next_one in zip(batch, vectors, following, strict=True)
        ]
        return embedded, reused

    async def text_vectors(
        self, principal: Principal, model: str, texts: Sequence[str], max_tokens: int | None = None
    ) -> tuple[list[TextVector], int]:
        """The vectors of the texts, and how many of them the tenant had already. The principal pays for the others.

        `max_tokens` is what a text may have, where that is known.
        """
        embedder = embedder_of(self.embedder, model)
        fingerprints = [fingerprint(embedder.model, text) for text in texts]
        vectors = await self.store.known_vectors(principal.tenant_id, fingerprints)
        missing = {key: text for key, text in zip(fingerprints, texts, strict=True) if key not in vectors}
        if missing:
            new_vectors = await self._embed_windows(embedder, principal, list(missing.values()), max_tokens)
            vectors |= dict(zip(missing, new_vectors, strict=True))
        return [TextVector(key, vectors[key]) for key in fingerprints], len(texts) - len(missing)

    async def _following(self, claim: Claim, texts: Sequence[str]) -> Sequence[TextVector | None]:
        """The vectors of the next space. An error does not fail the file: the migration embeds what is missing."""
        if claim.next_space is None:
            return [None] * len(texts)
        try:
            model, longest = claim.next_space.model, claim.chunking.max_tokens
            vectors, _ = await self.text_vectors(claim.principal, model, texts, longest)
        except ArgosyError:
            return [None] * len(texts)
        return vectors

    async def _embed_windows(
        self, embedder: Embedder, principal: Principal, texts: list[str], max_tokens: int | None
    ) -> list[Vector]:
        """A vector for each text, of all of it: the mean of those of its windows, where it has several."""
        if max_tokens is not None and max_tokens <= READ_TOKENS:
            return await self._embed(embedder, principal, texts)
        windows = [split_into_windows(text, self.counter) for text in texts]
        flat = [window for of_text in windows for window in of_text]
        vectors: list[Vector] = []
        for start in range(0, len(flat), MAX_TEXTS):
            vectors += await self._embed(embedder, principal, flat[start : start + MAX_TEXTS])
        following = iter(vectors)
        return [mean_vector([next(following) for _ in of_text]) for of_text in windows]

    async def _embed(self, embedder: Embedder, principal: Principal, texts: list[str]) -> list[Vector]:
        """Embed as the principal that attached the file, which pays.

        Transient errors are retried here, because a new run has to parse the file again.
        """
        for attempt in range(1, self.max_attempts + 1):
            try:
                return await self._calls_of(embedder).embed(principal, texts)
            except ArgosyError as error:
                if attempt == self.max_attempts or not is_transient(error):
                    raise
                await self.sleep(_retry_delay_seconds(error, attempt))
        raise AssertionError("unreachable")

    @cached_property
    def _calls(self) -> dict[str, MergedCalls]:
        return {}

    def _calls_of(self, embedder: Embedder) -> MergedCalls:
        """Texts for one model share calls; those for two models cannot."""
        if embedder.model not in self._calls:
            self._calls[embedder.model] = MergedCalls(partial(self._embed_as, embedder))
        return self._calls[embedder.model]

    async def _embed_as(self, embedder: Embedder, principal: Principal, texts: list[str]) -> list[Vector]:
        with as_caller(Caller(principal, self.signer.sign(principal), new_id("req_"))):
            return await embedder.embed(texts)


def _retry_delay_seconds(error: ArgosyError, attempt: int) -> float:
    retry_after = error.retry_after.total_seconds() if error.retry_after else 0.0
    return max(retry_after, random.uniform(0.5, 1.0) * 2.0**attempt)  # noqa: S311 - jitter
