"""A batch whose requests run is looked at each second, so a look must not cost more the larger the batch is."""

from __future__ import annotations

from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.batches.postgres import PostgresBatchStore
from orchestrator.jobs.listing.postgres import PostgresJobReader
from orchestrator.jobs.model import JobState
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.settle import ended_waiting

from services.orchestrator.tests.batch_store_contract import LEASE, a_batch, a_caller, claim_of
from services.orchestrator.tests.job_store_contract.subject import new_job


@pytest.fixture
async def jobs(database: Database, owner: Any) -> Any:
    jobs = PostgresJobStore(database, on_written=lambda: None, on_dispatched=lambda: None)
    await jobs.keep_partitions(3)
    yield jobs
    await owner.execute("DELETE FROM jobs; DELETE FROM finished_jobs; DELETE FROM tenant_queues; DELETE FROM batches")


async def test_a_batch_runs_until_each_job_is_final_or_in_quarantine(
    jobs: PostgresJobStore, database: Database, owner: Any
) -> None:
    reader = PostgresJobReader(database)
    await jobs.submit([new_job("job_1", batch_id="batch_1"), new_job("job_2", batch_id="batch_1")])
    assert await reader.is_running("ten_1", "batch_1")
    assert not await reader.is_running("ten_2", "batch_1")

    await owner.execute("UPDATE jobs SET state = 'quarantined' WHERE job_id = 'job_1'")
    assert await reader.is_running("ten_1", "batch_1")

    await owner.execute("UPDATE jobs SET state = 'quarantined'")
    assert not await reader.is_running("ten_1", "batch_1")


async def test_a_claim_does_not_count_the_requests(jobs: PostgresJobStore, database: Database) -> None:
    store, caller = PostgresBatchStore(database, on_written=lambda: None), a_caller()
    batch = await a_batch(store, caller)
    claim = await claim_of(store, batch)
    await store.start(claim, 1)
    (job,) = await jobs.submit([new_job("job_1", tenant_id=caller.tenant_id, batch_id=batch.batch_id)])
    found = await jobs.read(job.ref.key)  # type: ignore[union-attr]  # accepted
    assert found is not None
    await jobs.end_waiting([ended_waiting(found[0], JobState.FAILED, found[1])])
    await store.release(claim, -LEASE)

    again = await claim_of(store, batch)

    assert (await store.get(caller.tenant_id, batch.batch_id)).failed == 1
    assert again.batch.failed == 0
