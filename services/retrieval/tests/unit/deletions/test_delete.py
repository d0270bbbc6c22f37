"""Pending deletions: batches, failures and the sweeper."""

from __future__ import annotations

from datetime import timedelta

import pytest
from chassis.errors import Unavailable
from retrieval.deletions.delete import delete_pending

from services.retrieval.tests.fake_deletions import FakeDeletionQueue
from services.retrieval.tests.fake_files import FakeFiles
from services.retrieval.tests.fake_peers import FakeObjectStore
from services.retrieval.tests.fakes import InMemoryDatabase
from services.retrieval.tests.tenants import Tenant


class FailingObjectStore(FakeObjectStore):
    async def delete(self, key: str) -> None:
        if key.endswith("failing"):
            raise Unavailable("the object store does not answer")
        await super().delete(key)


async def test_a_deletion_that_fails_does_not_stop_others_and_stays_pending() -> None:
    database, objects = InMemoryDatabase(), FailingObjectStore()
    for name in ("failing", "other"):
        objects.stored[f"ten_one/{name}"] = b"bytes"
        await FakeFiles(database).begin_upload("ten_one", name, timedelta(0))

    with pytest.raises(Unavailable):
        await delete_pending(queue=FakeDeletionQueue(database), objects=objects)

    assert list(objects.stored) == ["ten_one/failing"]
    assert [deletion.object_key for deletion, _ in database.deletions.values()] == ["ten_one/failing"]


async def test_the_sweeper_deletes_objects_reports_them_and_returns_whether_there_may_be_more(one: Tenant) -> None:
    file, objects = await one.file(), FakeObjectStore()
    objects.stored[f"ten_one/{file.file_id}"] = b"bytes"
    await one.ports.files.delete(one.tenant_id, file.file_id)

    deleted: list[int] = []

    async def sweep() -> bool:
        return await delete_pending(queue=one.ports.deletions, objects=objects, on_deleted=deleted.append)

    assert [await sweep(), await sweep()] == [True, False]
    assert deleted == [1, 0]
    assert objects.stored == {}
