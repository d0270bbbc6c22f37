"""Indexing one attached file: read, cut, embed, store; a kill at any point costs one batch at most."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError, Kind
from chassis.ids import new_id
from chassis.tenancy import Caller, Principal, PrincipalSigner, as_caller

from retrieval.domain.chunking import Chunk, Chunker, Tokens
from retrieval.domain.documents import FileRefused, Parser, Refusal
from retrieval.domain.embedding import Embedder, Vector, fingerprint
from retrieval.domain.files import FileNotFound, Objects, object_key

LEASE = timedelta(seconds=30)
HEARTBEATS_PER_LEASE = 3
LONGEST_WAIT = timedelta(seconds=60)
# A claim that ends without a word is a crash of this process; a file that kills it so often is to blame.
MOST_CRASHES = 10
# What one run embeds while other tenants wait. It goes on where it stopped, but reads the file again up to there.
TURN_CHUNKS = 2_048

_PASSING = {Kind.UNAVAILABLE, Kind.TIMED_OUT, Kind.THROTTLED, Kind.CANCELLED, Kind.INTERNAL, Kind.UNAUTHENTICATED}
_PASSING_UPSTREAM = {
    "UPSTREAM_RATE_LIMITED",
    "UPSTREAM_FAILED",
    "UPSTREAM_TIMED_OUT",
    "UPSTREAM_GARBAGE",
    "UPSTREAM_CUT",
}


@dataclass(frozen=True, slots=True)
class AttachmentKey:
    """A file in a vector store."""

    tenant_id: str
    vector_store_id: str
    file_id: str


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to index a file, for a lease that each batch renews.

    `chunks` are stored already; `crashes` and `retries` count since the last stored batch, this claim excluded.
    """

    key: AttachmentKey
    attachment: int
    epoch: int
    chunks: int
    crashes: int
    retries: int
    principal: Principal
    filename: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class EmbeddedChunk:
    """A chunk with its vector and what equal texts share."""

    chunk: Chunk
    fingerprint: bytes
    vector: Vector


class ClaimLost(Exception):
    """The attachment is gone or somebody else holds it: stop, and write nothing."""


class Ingests(Protocol):
    """State of indexing. What takes a claim raises ClaimLost when it is not the latest one."""

    async def claim(self, key: AttachmentKey, lease: timedelta) -> Claim | None:
        """None when there is nothing to do: done, gone, not due, or held by somebody alive."""

    async def due(self, limit: int) -> list[AttachmentKey]:
        """What should have been claimed a while ago, of all tenants in turn, oldest first."""

    async def extend(self, claim: Claim, lease: timedelta) -> None:
        """Stay the holder."""

    async def known(self, tenant_id: str, fingerprints: Sequence[bytes]) -> dict[bytes, Vector]:
        """Vectors that the tenant has paid for already."""

    async def add(self, claim: Claim, batch: Sequence[EmbeddedChunk], lease: timedelta) -> None:
        """Store the next chunks and move the cursor past them, or nothing."""

    async def index_words(self, claim: Claim, lease: timedelta) -> bool:
        """Index the words of the next thousand chunks; False when none was left."""

    async def complete(self, claim: Claim) -> None:
        """Let searches find it."""

    async def fail(self, claim: Claim, reason: str, message: str) -> None:
        """Give up for good; what was stored is removed."""

    async def release(self, claim: Claim, wait: timedelta, *, retry: bool) -> None:
        """Let go; it is due again after `wait`. `retry` counts it among the retries."""


class _TurnOver(Exception):
    """The file is large, and another tenant's waits."""


class End(StrEnum):
    """How a run over one file ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    POSTPONED = "postponed"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's end, for logs and metrics; `reason` when failed or postponed."""

    key: AttachmentKey
    end: End
    reason: str = ""
    chunks: int = 0
    reused: int = 0


@dataclass(slots=True)
class _Progress:
    chunks: int = 0
    reused: int = 0


@dataclass(frozen=True)
class Ingestion:
    """The use case and what it needs.

    lease: for how long a file is held that nobody works on any more.
    others_wait: whether files of tenants other than this one wait for their turn.
    """

    ingests: Ingests
    objects: Objects
    parser: Parser
    tokens: Tokens
    embedder: Embedder
    signer: PrincipalSigner
    others_wait: Callable[[str], bool]
    max_bytes: int
    batch_size: int = 32
    turn_chunks: int = TURN_CHUNKS
    lease: timedelta = LEASE
    tries: int = 4
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def run(self, key: AttachmentKey) -> Outcome | None:
        """Index the file if it is free; None when there was nothing to do. Safe to repeat, and to run twice at once."""
        claim = await self.ingests.claim(key, self.lease)
        if claim is None:
            return None
        progress = _Progress()
        try:
            end, reason = await self._settle(claim, progress)
        except ClaimLost:
            end, reason = End.LOST, ""
        except asyncio.CancelledError:
            with suppress(ClaimLost, ArgosyError):
                await self.ingests.release(claim, timedelta(0), retry=False)
            raise
        return Outcome(key, end, reason, progress.chunks, progress.reused)

    async def _settle(self, claim: Claim, progress: _Progress) -> tuple[End, str]:
        """Index, and turn what went wrong into the attachment's state."""
        try:
            await self._index(claim, progress)
        except FileRefused as refusal:
            return await self._fail(claim, refusal.reason, refusal.message)
        except ArgosyError as error:
            if not passing(error):
                return await self._fail(claim, error.code, error.message)
            await self.ingests.release(claim, _wait(claim.retries), retry=True)
            return End.POSTPONED, error.code
        except _TurnOver:
            await self.ingests.release(claim, timedelta(0), retry=False)
            return End.POSTPONED, "turn_over"
        return End.COMPLETED, ""

    async def _fail(self, claim: Claim, reason: str, message: str) -> tuple[End, str]:
        await self.ingests.fail(claim, reason, message)
        return End.FAILED, reason

    async def _index(self, claim: Claim, progress: _Progress) -> None:
        if claim.crashes >= MOST_CRASHES:
            raise FileRefused(Refusal.INDEXING_CRASHED, f"indexing was cut off {claim.crashes} times in a row")
        if claim.size_bytes > self.max_bytes:
            raise FileRefused(Refusal.FILE_TOO_LARGE, f"files of more than {self.max_bytes} bytes are not indexed")
        async with self._held(claim):
            async with aclosing(self._batches(claim)) as batches:
                async for batch in batches:
                    await self.ingests.add(claim, await self._embedded(claim, batch, progress), self.lease)
                    progress.chunks += len(batch)
                    if progress.chunks >= self.turn_chunks and self.others_wait(claim.key.tenant_id):
                        raise _TurnOver
            if not claim.chunks + progress.chunks:
                raise FileRefused(Refusal.EMPTY_FILE, "the file has no text; scanned pages are not read")
            while await self.ingests.index_words(claim, self.lease):
                pass
            await self.ingests.complete(claim)

    @asynccontextmanager
    async def _held(self, claim: Claim) -> AsyncIterator[None]:
        """Renew the lease meanwhile. A failure to do so is no matter: every write checks the claim itself."""

        async def beat() -> None:
            while True:
                await asyncio.sleep(self.lease.total_seconds() / HEARTBEATS_PER_LEASE)
                with suppress(ArgosyError, ClaimLost):
                    await self.ingests.extend(claim, self.lease)

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()

    async def _batches(self, claim: Claim) -> AsyncGenerator[list[Chunk], None]:
        """The chunks that are not stored yet, `batch_size` at a time."""
        batch: list[Chunk] = []
        async with aclosing(self._chunks(claim)) as chunks:
            async for chunk in chunks:
                if chunk.ordinal >= claim.chunks:
                    batch.append(chunk)
                if len(batch) == self.batch_size:
                    yield batch
                    batch = []
        if batch:
            yield batch

    async def _chunks(self, claim: Claim) -> AsyncGenerator[Chunk, None]:
        chunker = Chunker(self.tokens)
        data = self.objects.read(object_key(claim.key.tenant_id, claim.key.file_id))
        try:
            async with aclosing(self.parser.blocks(claim.filename, data)) as blocks:
                async for block in blocks:
                    for chunk in chunker.feed(block):
                        yield chunk
        except FileNotFound:
            raise FileRefused(Refusal.UNREADABLE_FILE, "the file's bytes are missing") from None
        for chunk in chunker.finish():
            yield chunk

    async def _embedded(self, claim: Claim, batch: Sequence[Chunk], progress: _Progress) -> list[EmbeddedChunk]:
        """Each chunk with its vector; equal text is embedded once per tenant."""
        prints = [fingerprint(self.embedder.model, chunk.text) for chunk in batch]
        vectors = await self.ingests.known(claim.key.tenant_id, prints)
        missing = {p: chunk.text for p, chunk in zip(prints, batch, strict=True) if p not in vectors}
        if missing:
            embedded = await self._embed(claim.principal, list(missing.values()))
            vectors |= dict(zip(missing, embedded, strict=True))
        progress.reused += len(batch) - len(missing)
        return [EmbeddedChunk(chunk, p, vectors[p]) for p, chunk in zip(prints, batch, strict=True)]

    async def _embed(self, principal: Principal, texts: list[str]) -> list[Vector]:
        """Embed on the attacher's account; try again what may pass, as each new start reads the file anew."""
        for attempt in range(1, self.tries + 1):
            try:
                with as_caller(Caller(principal, self.signer.sign(principal), new_id("req_"))):
                    return await self.embedder.embed(texts)
            except ArgosyError as error:
                if attempt == self.tries or not passing(error):
                    raise
                await self.pause(_seconds(error, attempt))
        raise AssertionError("unreachable")


def passing(error: ArgosyError) -> bool:
    """Whether the same call may succeed later."""
    if error.kind is Kind.UPSTREAM:
        return error.reason in _PASSING_UPSTREAM
    return error.kind in _PASSING


def _seconds(error: ArgosyError, attempt: int) -> float:
    asked = error.retry_after.total_seconds() if error.retry_after else 0.0
    return max(asked, random.uniform(0.5, 1.0) * 2.0**attempt)  # noqa: S311 - jitter


def _wait(retries: int) -> timedelta:
    """Backoff with full jitter, but never nothing."""
    longest = min(LONGEST_WAIT.total_seconds(), 2.0 ** (retries + 1))
    return timedelta(seconds=random.uniform(1.0, longest))  # noqa: S311 - jitter
