"""Reports of what is left of deleted files and stores."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from retrieval.deletions.report import DeletionNotFound, Remains, deletion_report
from retrieval.files.model import object_key

from services.retrieval.tests.fake_deletions import FakeDeletionRecords
from services.retrieval.tests.fake_peers import FakeObjectStore

DELETED, CHECKED = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


async def test_a_report_is_complete_when_rows_and_bytes_are_gone() -> None:
    records, objects = FakeDeletionRecords(), FakeObjectStore()
    records.left["ten_one", "file-1"] = (DELETED, CHECKED, Remains(chunks=2, vectors=2))
    objects.stored[object_key("ten_one", "file-1")] = b"x"

    first = await deletion_report("ten_one", "file-1", records=records, objects=objects)
    records.left["ten_one", "file-1"] = (DELETED, CHECKED, Remains())
    second = await deletion_report("ten_one", "file-1", records=records, objects=objects)
    objects.stored.clear()
    third = await deletion_report("ten_one", "file-1", records=records, objects=objects)

    assert [(one.remains.chunks, one.objects, one.complete) for one in (first, second, third)] == [
        (2, 1, False),
        (0, 1, False),
        (0, 0, True),
    ]


async def test_what_was_never_deleted_has_no_report() -> None:
    records, objects = FakeDeletionRecords(), FakeObjectStore()
    records.left["ten_other", "file-1"] = (DELETED, CHECKED, Remains())

    with pytest.raises(DeletionNotFound):
        await deletion_report("ten_one", "file-1", records=records, objects=objects)
