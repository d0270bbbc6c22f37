"""One run over a migration: embed the chunks that have no vector, change the store, delete what it no longer reads.

A kill at any point costs at most one batch: the vectors of each batch are stored in one transaction, and the next run
looks for chunks without a vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from chassis.aio import heartbeat, run_claimed
from chassis.errors import ArgosyError

from retrieval.ingestion.claim import LEASE, retry_delay
from retrieval.ingestion.embed import ChunkEmbedder
from retrieval.ingestion.model import ClaimLost, RunResult, RunSummary, is_transient
from retrieval.store_migrations.model import (
    BEFORE_ALL,
    SEARCH_GRACE,
    MigrationClaim,
    MigrationKey,
    PlacedVector,
    StoredChunk,
)
from retrieval.store_migrations.ports import MigrationRuns

# A run that ends without a release is a crash.
MAX_CRASHES = 10
PAGE_SIZE = 256
DELETE_BATCH_SIZE = 1_000
# Chunks after which a run lets others have its place, if any wait: files of all tenants, and other migrations.
YIELD_AFTER_CHUNKS = 256
# Between two attempts to change a store that a file without vectors was added to meanwhile.
CUT_OVER_PAUSE = timedelta(seconds=1)
YIELDED = "yielded"
CHUNKS_MISSING = "chunks_missing"


class _Postponed(Exception):
    """The run stops here; another one goes on after a delay."""

    def __init__(self, reason: str, delay: timedelta = timedelta(0)) -> None:
        super().__init__()
        self.reason = reason
        self.delay = delay


@dataclass(slots=True)
class _Progress:
    """Of one run: vectors it stored, and those of them that the tenant had."""

    chunks: int = 0
    reused: int = 0


@dataclass(frozen=True)
class Migrator:
    """Runs over migrations.

    others_wait: whether any other work waits for a run.
    """

    store: MigrationRuns
    chunk_embedder: ChunkEmbedder
    others_wait: Callable[[], bool]
    batch_size: int = 32
    yield_after_chunks: int = YIELD_AFTER_CHUNKS
    lease: timedelta = LEASE
    grace: timedelta = SEARCH_GRACE

    async def run(self, key: MigrationKey) -> RunSummary | None:
        """Work on the migration; None when it cannot be claimed. Safe to repeat and to run twice at once."""
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

    async def _run_claimed(self, claim: MigrationClaim, progress: _Progress) -> tuple[RunResult, str]:
        try:
            async with heartbeat(self.store, claim, self.lease, lost=ClaimLost):
                if claim.retired_space is None:
                    await self._migrate(claim, progress)
                else:
                    await self._delete_retired(claim)
        except _Postponed as postponed:
            await self.store.release(claim, postponed.delay, failed=False)
            return RunResult.POSTPONED, postponed.reason
        except ArgosyError as error:
            if claim.retired_space is None and not is_transient(error):
                await self.store.fail(claim, error.code, error.message)
                return RunResult.FAILED, error.code
            await self.store.release(claim, retry_delay(claim.retries), failed=True)
            return RunResult.POSTPONED, error.code
        return RunResult.COMPLETED, ""

    async def _migrate(self, claim: MigrationClaim, progress: _Progress) -> None:
        if claim.crashes >= MAX_CRASHES:
            await self.store.fail(claim, "migration_crashed", f"the migration crashed {claim.crashes} times in a row")
            raise ClaimLost
        unsettled = await self.store.unsettled(claim)
        await self._embed_missing(claim, progress)
        if not await self.store.cut_over(claim, self.grace, unsettled):
            raise _Postponed(CHUNKS_MISSING, CUT_OVER_PAUSE)

    async def _embed_missing(self, claim: MigrationClaim, progress: _Progress) -> None:
        """Pass over all chunks once. Files that come meanwhile get theirs from ingestion, or from the next pass."""
        after = BEFORE_ALL
        while page := await self.store.chunks(claim, after, PAGE_SIZE):
            missing = [chunk for chunk in page if chunk.missing]
            for start in range(0, len(missing), self.batch_size):
                await self._embed(claim, missing[start : start + self.batch_size], progress)
                if progress.chunks >= self.yield_after_chunks and self.others_wait():
                    raise _Postponed(YIELDED)
            after = page[-1].place

    async def _embed(self, claim: MigrationClaim, batch: Sequence[StoredChunk], progress: _Progress) -> None:
        texts = [chunk.text for chunk in batch]
        vectors, reused = await self.chunk_embedder.text_vectors(claim.principal, claim.space.model, texts)
        placed = [PlacedVector(chunk.place, vector) for chunk, vector in zip(batch, vectors, strict=True)]
        await self.store.add_vectors(claim, placed, reused, self.lease)
        progress.chunks += len(batch)
        progress.reused += reused

    async def _delete_retired(self, claim: MigrationClaim) -> None:
        after = BEFORE_ALL
        while (last := await self.store.delete_retired(claim, after, DELETE_BATCH_SIZE)) is not None:
            after = last
            if self.others_wait():
                raise _Postponed(YIELDED)
        await self.store.end_retirement(claim)
