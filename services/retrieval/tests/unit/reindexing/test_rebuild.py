"""Indexing files of older rules anew: block after block, and on with the next file when one is gone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from chassis.errors import Unavailable
from retrieval.reindexing.cli import reindex
from retrieval.reindexing.failures import FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS, PausedFiles
from retrieval.reindexing.rebuild import (
    BATCH_SIZE,
    IDLE_BATCH_SIZE,
    OutdatedFile,
    rebuild_outdated,
    rebuild_while_idle,
)


@dataclass
class FakeVersions:
    """Files that are outdated until they are finished; those in `deleted` cannot be rebuilt."""

    files: list[OutdatedFile]
    deleted: set[int] = field(default_factory=set)
    broken: set[int] = field(default_factory=set)
    error: Exception = field(default_factory=lambda: ValueError("a text without words"))
    blocks: list[tuple[int, int]] = field(default_factory=list)
    finished: list[OutdatedFile] = field(default_factory=list)

    async def outdated(self, limit: int, vector_store_id: str = "") -> Sequence[OutdatedFile]:
        of_store = [file for file in self.files if vector_store_id in {"", file.vector_store_id}]
        return [file for file in of_store if file not in self.finished and file.attachment not in self.deleted][:limit]

    async def rebuild(self, file: OutdatedFile, first_ordinal: int, chunks: int) -> bool:
        self.blocks.append((file.attachment, first_ordinal))
        if file.attachment in self.broken:
            raise self.error
        return file.attachment not in self.deleted

    async def finish(self, file: OutdatedFile) -> None:
        self.finished.append(file)

    async def expire(self, vector_store_id: str = "") -> int:
        self.finished.clear()
        return len(self.files)


def a_file(number: int, chunks: int = 1, store: str = "vs_1") -> OutdatedFile:
    return OutdatedFile("ten_one", store, number, chunks, 1)


async def test_a_large_file_is_indexed_a_thousand_chunks_at_a_time() -> None:
    versions = FakeVersions([a_file(1, 2_001), a_file(2)])

    assert await rebuild_outdated(versions) == 2

    assert versions.blocks == [(1, 0), (1, 1_000), (1, 2_000), (2, 0)]


async def test_a_file_that_goes_meanwhile_is_not_finished_and_stops_nothing() -> None:
    versions = FakeVersions([a_file(1, 2_001), a_file(2)])
    outdated = versions.outdated

    async def and_delete_it(limit: int, vector_store_id: str = "") -> Sequence[OutdatedFile]:
        found = await outdated(limit, vector_store_id)
        versions.deleted.add(1)
        return found

    versions.outdated = and_delete_it  # type: ignore[method-assign]

    assert await rebuild_outdated(versions) == 1
    assert versions.blocks == [(1, 0), (2, 0)]


async def test_the_command_goes_on_until_no_file_of_the_store_is_outdated(capsys: pytest.CaptureFixture[str]) -> None:
    versions = FakeVersions([*(a_file(number) for number in range(45)), a_file(99, store="vs_2")])

    assert await reindex(versions, "vs_1") == 45
    assert await reindex(versions, "vs_1") == 0
    assert await reindex(versions, every=True) == 46

    assert capsys.readouterr().out.startswith("20 files\n40 files\n45 files\ndone: 45 files\n")


async def run(versions: FakeVersions, *busy: bool) -> tuple[bool, int]:
    """A batch while the service is busy or idle, the last value from then on; whether more follows, and how many."""
    states, counted = list(busy), [0]

    def is_busy() -> bool:
        return states.pop(0) if len(states) > 1 else states[0]

    more = await rebuild_while_idle(versions, is_busy, counted.append, PausedFiles(lambda *_: None))
    return more, sum(counted)


async def test_an_idle_service_goes_on_with_large_batches_until_no_file_is_outdated() -> None:
    versions = FakeVersions([a_file(number) for number in range(IDLE_BATCH_SIZE + 5)])

    assert await run(versions, False) == (True, IDLE_BATCH_SIZE)
    assert await run(versions, False) == (True, 5)
    assert await run(versions, False) == (False, 0)


async def test_a_busy_service_indexes_a_small_batch_and_pauses() -> None:
    versions = FakeVersions([a_file(number) for number in range(100)])

    assert await run(versions, True) == (False, BATCH_SIZE)


async def test_files_that_come_stop_a_large_batch_after_the_file_in_hand() -> None:
    versions = FakeVersions([a_file(number) for number in range(100)])

    assert await run(versions, False, False, True) == (False, BATCH_SIZE + 2)


async def test_files_that_another_process_holds_are_not_asked_for_without_a_pause() -> None:
    versions = FakeVersions([a_file(1)])
    outdated = versions.outdated

    async def and_hold_it(limit: int, vector_store_id: str = "") -> Sequence[OutdatedFile]:
        found = await outdated(limit, vector_store_id)
        versions.deleted.add(1)
        return found

    versions.outdated = and_hold_it  # type: ignore[method-assign]

    assert await run(versions, False) == (False, 0)


async def test_a_file_that_fails_stops_no_other_and_is_tried_again_after_longer_and_longer_pauses() -> None:
    versions, now, tries = FakeVersions([a_file(1), a_file(2)], broken={1}), 0.0, list[float]()
    failures = PausedFiles(lambda file, error, count: tries.append(now), clock=lambda: now)

    assert await rebuild_outdated(versions, failures=failures) == 1
    for _ in range(4 * 24 * 60):
        now += FIRST_PAUSE_SECONDS
        assert await rebuild_outdated(versions, failures=failures) == 0

    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == MAX_PAUSE_SECONDS
    assert versions.finished == [a_file(2)]

    versions.broken.clear()
    now += MAX_PAUSE_SECONDS
    assert await rebuild_outdated(versions, failures=failures) == 1
    assert not failures.is_paused(a_file(1))


async def test_a_file_that_takes_the_database_too_long_ends_the_batch_and_is_left_out_of_the_next_one() -> None:
    versions = FakeVersions([a_file(1), a_file(2)], broken={1}, error=Unavailable("a statement took too long"))
    failures = PausedFiles(lambda *_: None, clock=lambda: 0.0)

    with pytest.raises(Unavailable):
        await rebuild_outdated(versions, failures=failures)
    assert await rebuild_outdated(versions, failures=failures) == 1
    assert versions.finished == [a_file(2)]


async def test_the_command_reports_a_file_that_fails() -> None:
    with pytest.raises(ValueError, match="without words"):
        await reindex(FakeVersions([a_file(1)], broken={1}), "vs_1")
