"""Indexes the keywords of files anew whose words were found by older rules, while they are searched.

A search reads the old words or the new ones of each thousand chunks: both are replaced in one transaction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from chassis.errors import Unavailable

# Files of a batch while other work waits; a batch that finds the service idle goes on to the larger number.
BATCH_SIZE = 20
IDLE_BATCH_SIZE = 200
CHUNKS_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class OutdatedFile:
    """A completed file whose keywords are of older rules than `version`. `attachment` is its number in the store."""

    tenant_id: str
    vector_store_id: str
    attachment: int
    chunks: int
    version: int


class KeywordVersions(Protocol):
    """The versions of the rules by which files were indexed."""

    async def outdated(self, limit: int, vector_store_id: str = "") -> Sequence[OutdatedFile]:
        """Files of older rules, of a store or of all; tenants take turns."""

    async def rebuild(self, file: OutdatedFile, first_ordinal: int, chunks: int) -> bool:
        """Replace the keywords of these chunks; False when the file is gone, or another process works on it."""

    async def finish(self, file: OutdatedFile) -> None:
        """Mark the file as indexed by the rules of its `version`."""

    async def expire(self, vector_store_id: str = "") -> int:
        """Take the files of a store, or of all, for outdated; how many."""


class Failures(Protocol):
    """Remembers which files could not be indexed anew."""

    def is_paused(self, file: OutdatedFile) -> bool:
        """Whether the file has failed, and it is too early to try it again."""

    def add(self, file: OutdatedFile, error: Exception) -> None:
        """Note that the file has failed."""

    def forget(self, file: OutdatedFile) -> None:
        """Note that the file is indexed, or gone."""


async def rebuild_outdated(
    versions: KeywordVersions,
    vector_store_id: str = "",
    limit: int = BATCH_SIZE,
    may_go_on: Callable[[int], bool] = lambda _: True,
    failures: Failures | None = None,
) -> int:
    """Index some outdated files anew; how many. Safe to interrupt and to run twice at once.

    `may_go_on` is asked before each file, with the number of those that are done. With `failures`, a file that fails is
    left for later and the next one is tried; without, its error is raised. Raises Unavailable in both cases.
    """
    done = 0
    for file in await versions.outdated(limit, vector_store_id):
        if not may_go_on(done):
            break
        if failures is not None and failures.is_paused(file):
            continue
        try:
            done += await _rebuild_file(versions, file)
        except Exception as error:
            if failures is None:
                raise
            failures.add(file, error)
            if isinstance(error, Unavailable):
                # The next file would wait for the database as long. One that takes it too long itself is paused, too.
                raise
        else:
            if failures is not None:
                failures.forget(file)
    return done


async def _rebuild_file(versions: KeywordVersions, file: OutdatedFile) -> bool:
    for first in range(0, file.chunks, CHUNKS_AT_ONCE):
        if not await versions.rebuild(file, first, CHUNKS_AT_ONCE):
            return False
    await versions.finish(file)
    return True


async def rebuild_while_idle(
    versions: KeywordVersions, is_busy: Callable[[], bool], count: Callable[[int], None], failures: Failures
) -> bool:
    """Index a batch of outdated files anew, a small one while the service is busy with new files.

    Returns whether the next batch may follow at once. One file at a time, so that searches have the other connections.
    """
    done = await rebuild_outdated(
        versions,
        limit=IDLE_BATCH_SIZE,
        may_go_on=lambda done: done < BATCH_SIZE or not is_busy(),
        failures=failures,
    )
    count(done)
    return done > 0 and not is_busy()
