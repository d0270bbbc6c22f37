"""Embeds the next piece of a file while the pieces before it are embedded and stored. They are stored in order."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import NamedTuple, Self

from chassis.errors import ArgosyError

from retrieval.chunking.splitter import Chunk
from retrieval.ingestion.embed import ChunkEmbedder
from retrieval.ingestion.model import Claim, EmbeddedChunk, SpacesChanged

StorePiece = Callable[[Claim, Sequence[EmbeddedChunk]], Awaitable[Claim]]
"""Stores the next chunks. Returns the claim with the spaces that the store has now; raises SpacesChanged."""


@dataclass(slots=True)
class Progress:
    """Chunks that a run has stored, and how many of their vectors the tenant had already."""

    chunks: int = 0
    reused: int = 0


class _Piece(NamedTuple):
    texts: frozenset[str]
    task: "asyncio.Task[None]"


class Pipeline:
    """The pieces of one run. An async context manager, at whose end pieces that are not stored are given up.

    claim: the claim of the run, with the spaces that the store had when the last piece was stored.
    max_unstored: pieces that are embedded or wait to be stored. A kill costs their vectors.
    """

    def __init__(
        self, embedder: ChunkEmbedder, claim: Claim, store: StorePiece, progress: Progress, max_unstored: int
    ) -> None:
        self.claim = claim
        self._embedder = embedder
        self._store = store
        self._progress = progress
        self._max_unstored = max_unstored
        self._unstored: deque[_Piece] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [piece.task for piece in self._unstored]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def add(self, chunks: Sequence[Chunk]) -> None:
        """Start with the next chunks, once there is room. Raises the errors of the pieces before."""
        texts = frozenset(chunk.text for chunk in chunks)
        # A text that an earlier piece has is not paid for again: its vector is known once that piece is stored.
        while len(self._unstored) >= self._limit or any(not texts.isdisjoint(piece.texts) for piece in self._unstored):
            await self._first_is_stored()
        earlier = self._unstored[-1].task if self._unstored else None
        self._unstored.append(_Piece(texts, asyncio.create_task(self._run(chunks, earlier))))

    @property
    def _limit(self) -> int:
        # The first piece is alone: a file that cannot be embedded costs one call.
        return self._max_unstored if self._progress.chunks else 1

    async def drain(self) -> None:
        """Wait until all pieces are stored. Raises their errors, the first one's first."""
        while self._unstored:
            await self._first_is_stored()

    async def _first_is_stored(self) -> None:
        await self._unstored[0].task
        self._unstored.popleft()

    async def _run(self, chunks: Sequence[Chunk], earlier: "asyncio.Task[None] | None") -> None:
        """Embed the chunks, and store them after those of the earlier piece."""
        while True:
            claim = self.claim
            try:
                embedded, reused = await self._embedder.embed(claim, chunks)
            except ArgosyError as error:
                if error.reason != "INSUFFICIENT_QUOTA" or earlier is None or earlier.done():
                    raise
                # What the earlier call still holds of the budget may be enough for this one, and for one at a time.
                self._max_unstored = 1
                await _ended(earlier)
                continue
            if earlier is not None:
                await _ended(earlier)
            try:
                self.claim = await self._store(claim, embedded)
            except SpacesChanged as changed:
                self.claim = replace(claim, space=changed.space, next_space=changed.next_space)
            else:
                self._progress.chunks += len(chunks)
                self._progress.reused += reused
                return


async def _ended(task: "asyncio.Task[None]") -> None:
    """Wait for the task, without cancelling it where this one is cancelled. Raises its error."""
    await asyncio.wait([task])
    task.result()
