"""One run over one attached file: parse, split, embed, store. A kill at any point costs at most one batch."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import timedelta

from chassis.aio import heartbeat, run_claimed
from chassis.errors import ArgosyError

from retrieval.chunking.splitter import Chunk, Splitter
from retrieval.chunking.token_counter import TokenCounter
from retrieval.files.model import FileNotFound, object_key
from retrieval.files.ports import ObjectStore
from retrieval.ingestion.claim import LEASE, retry_delay
from retrieval.ingestion.embed import ChunkEmbedder
from retrieval.ingestion.model import (
    KEYWORD_BATCH_SIZE,
    Claim,
    ClaimLost,
    RunResult,
    RunSummary,
    SpacesChanged,
    is_transient,
)
from retrieval.ingestion.ports import IngestionStore
from retrieval.parsing.model import FileWarning, IngestionErrorCode, Parser, UnindexableFile
from retrieval.quotas.model import NO_QUOTAS, Quotas
from retrieval.vector_stores.model import AttachmentKey

# A run that ends without a release is a crash. After so many in a row the file is taken for their cause.
MAX_CRASHES = 10
# Chunks after which a run yields to other tenants' files. The next run continues there, but parses the file again.
YIELD_AFTER_CHUNKS = 2_048


class _Yield(Exception):
    """The run stops so that other tenants' files can run."""


@dataclass(slots=True)
class _Progress:
    """Of one run. It parses the file from its beginning, so it has all warnings of the file."""

    chunks: int = 0
    reused: int = 0
    warnings: list[FileWarning] = field(default_factory=list)


@dataclass(frozen=True)
class Ingestion:
    """Runs over files.

    has_other_tenants: whether files of tenants other than this one wait for a run.
    """

    store: IngestionStore
    objects: ObjectStore
    parser: Parser
    token_counter: TokenCounter
    chunk_embedder: ChunkEmbedder
    has_other_tenants: Callable[[str], bool]
    max_bytes: int
    batch_size: int = 32
    yield_after_chunks: int = YIELD_AFTER_CHUNKS
    lease: timedelta = LEASE
    quotas: Quotas = NO_QUOTAS

    async def run(self, key: AttachmentKey) -> RunSummary | None:
        """Ingest the file; None when it cannot be claimed. Safe to repeat and to run twice at once."""
        progress = _Progress()
        ended = await run_claimed(
            self.store,
            key,
            self.lease,
            lambda claim: self._run_claimed(claim, progress),
            lost=ClaimLost,
            if_lost=(RunResult.LOST, ""),
        )
        return RunSummary(*ended, progress.chunks, progress.reused) if ended else None

    async def _run_claimed(self, claim: Claim, progress: _Progress) -> tuple[RunResult, str]:
        """Ingest, and store the error if there is one. Returns the result and its reason."""
        try:
            await self._ingest(claim, progress)
        except UnindexableFile as error:
            return await self._fail(claim, error.code, error.message)
        except ArgosyError as error:
            if not is_transient(error):
                return await self._fail(claim, error.code, error.message)
            await self.store.release(claim, retry_delay(claim.retries), failed=True)
            return RunResult.POSTPONED, error.code
        except _Yield:
            await self.store.release(claim, timedelta(0), failed=False)
            return RunResult.POSTPONED, "yielded"
        return RunResult.COMPLETED, ""

    async def _fail(self, claim: Claim, reason: str, message: str) -> tuple[RunResult, str]:
        await self.store.fail(claim, reason, message)
        return RunResult.FAILED, reason

    async def _ingest(self, claim: Claim, progress: _Progress) -> None:
        if claim.crashes >= MAX_CRASHES:
            message = f"indexing crashed {claim.crashes} times in a row"
            raise UnindexableFile(IngestionErrorCode.INDEXING_CRASHED, message)
        if claim.size_bytes > self.max_bytes:
            message = f"files of more than {self.max_bytes} bytes are not indexed"
            raise UnindexableFile(IngestionErrorCode.FILE_TOO_LARGE, message)
        async with heartbeat(self.store, claim, self.lease, lost=ClaimLost):
            if await self._store_chunks(claim, progress):
                return
            if not claim.chunks + progress.chunks:
                message = "the file has no text; scanned pages are not read"
                raise UnindexableFile(IngestionErrorCode.EMPTY_FILE, message)
            if claim.chunks + progress.chunks > KEYWORD_BATCH_SIZE:
                while await self.store.index_keywords(claim, self.lease):
                    pass
            await self.store.complete(claim, progress.warnings)

    async def _store_chunks(self, claim: Claim, progress: _Progress) -> bool:
        """Store all chunks. Returns whether the file was completed with them."""
        before = claim.chunks
        async with aclosing(self._batches(claim, progress.warnings)) as batches:
            async for batch, is_last in batches:
                # A file of one batch: one transaction instead of two.
                completes = is_last and not before + progress.chunks
                claim = await self._store_batch(claim, batch, progress, completes=completes)
                if completes:
                    return True
                if progress.chunks >= self.yield_after_chunks and self.has_other_tenants(claim.key.tenant_id):
                    raise _Yield
        return False

    async def _store_batch(self, claim: Claim, batch: list[Chunk], progress: _Progress, *, completes: bool) -> Claim:
        """Store the batch, and complete the file with it or not. Returns the claim with the spaces that it has now."""
        quota = self.quotas.of(claim.principal.plan)
        while True:
            embedded, reused = await self.chunk_embedder.embed(claim, batch)
            try:
                if completes:
                    await self.store.finish(claim, embedded, progress.warnings, quota)
                else:
                    claim = await self.store.add_chunks(claim, embedded, self.lease, quota)
            except SpacesChanged as changed:
                claim = replace(claim, space=changed.space, next_space=changed.next_space)
            else:
                progress.chunks += len(batch)
                progress.reused += reused
                return claim

    async def _batches(
        self, claim: Claim, warnings: list[FileWarning]
    ) -> AsyncGenerator[tuple[list[Chunk], bool], None]:
        """The chunks that are not stored yet, `batch_size` at a time, and whether they are known to be the last."""
        batch: list[Chunk] = []
        async with aclosing(self._chunks(claim, warnings)) as chunks:
            async for chunk in chunks:
                if chunk.ordinal >= claim.chunks:
                    batch.append(chunk)
                if len(batch) == self.batch_size:
                    yield batch, False
                    batch = []
        if batch:
            yield batch, True

    async def _chunks(self, claim: Claim, warnings: list[FileWarning]) -> AsyncGenerator[Chunk, None]:
        splitter = Splitter(self.token_counter, claim.chunking.max_tokens, claim.chunking.overlap_tokens)
        data = self.objects.read(object_key(claim.key.tenant_id, claim.key.file_id))
        try:
            async with aclosing(self.parser.blocks(claim.filename, data, _owner(claim))) as blocks:
                async for block in blocks:
                    if isinstance(block, FileWarning):
                        warnings.append(block)
                        continue
                    for chunk in splitter.feed(block):
                        yield chunk
        except FileNotFound:
            raise UnindexableFile(IngestionErrorCode.UNREADABLE_FILE, "the file's bytes are missing") from None
        for chunk in splitter.finish():
            yield chunk


def _owner(claim: Claim) -> str:
    """Whose documents may be parsed by one process: those that the same searches find."""
    return f"{claim.key.tenant_id}/{claim.key.vector_store_id}"
