"""The rules for the files of a batch."""

from __future__ import annotations

import pytest
from chassis.errors import InvalidRequest
from chassis.testing import a_principal
from retrieval.file_batches.create import create_file_batch
from retrieval.file_batches.model import FileBatchCounts
from retrieval.vector_stores.model import FileToAttach

from services.retrieval.tests.tenants import Tenant


async def test_a_file_that_is_named_twice_is_attached_once(one: Tenant) -> None:
    store, file = await one.store(), await one.file()

    twice = [FileToAttach(file.file_id, {"year": 2023}), FileToAttach(file.file_id, {"year": 2024})]
    batch = await create_file_batch(a_principal(one.tenant_id), store.vector_store_id, twice, batches=one.ports.batches)

    assert batch.file_counts == FileBatchCounts(in_progress=1)
    attached = await one.ports.stores.attachment(one.tenant_id, store.vector_store_id, file.file_id)
    assert attached.attributes == {"year": 2024}


@pytest.mark.parametrize("count", [0, 501])
async def test_a_batch_of_no_files_or_too_many_is_refused(one: Tenant, count: int) -> None:
    files = [FileToAttach(f"file-{n}") for n in range(count)]

    with pytest.raises(InvalidRequest) as refused:
        await create_file_batch(a_principal(one.tenant_id), "vs_1", files, batches=one.ports.batches)

    assert refused.value.param == "file_ids"
