"""Pools on a real Postgres, and the jobs that they get."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.jobs.model import Job, JobState
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.settle import completed
from orchestrator.pools.postgres import PostgresPoolStore

from services.orchestrator.tests.jobs_examples import POLICY, a_job, claim, dispatch, draw, submit
from services.orchestrator.tests.pool_fakes import spec
from services.orchestrator.tests.pool_store_contract import QUOTA, PoolStoreContract

AT_ONCE = timedelta(0)


@pytest.fixture
async def pools(database: Database, owner: Any) -> AsyncIterator[PostgresPoolStore]:
    yield PostgresPoolStore(database)
    await owner.execute("DELETE FROM worker_pools; DELETE FROM pool_tenants")


class TestPostgresPoolStore(PoolStoreContract):
    async def test_only_jobs_of_its_tenants_go_to_a_pool_and_only_while_it_is_active(
        self, pools: PostgresPoolStore, store: PostgresJobStore
    ) -> None:
        await pools.put(spec("gold", "ten_1"), QUOTA)
        own, other = await submit(store, a_job("ten_1"), a_job("ten_2"))
        await pools.drain("gold")
        (later,) = await submit(store, a_job("ten_1"))

        assert (own.pool, other.pool, later.pool) == ("gold", "default", "default")
        read = await store.read(own.ref.key)
        assert read is not None
        assert read[0].pool == "gold"

    async def test_a_pool_is_removed_only_when_its_last_job_has_ended(
        self, pools: PostgresPoolStore, store: PostgresJobStore
    ) -> None:
        await pools.put(spec("gold", "ten_1"), QUOTA)
        (job,) = await submit(store, a_job("ten_1"))
        draining = await pools.drain("gold")
        assert draining is not None
        assert draining.unfinished_jobs == 1
        assert await pools.drained(AT_ONCE) == []
        assert not await pools.remove("gold")

        dispatched = await dispatch(store, pool="gold")
        claimed = await claim(store, [one.run for one in dispatched])
        (run,) = await store.running([claimed[0].run])
        assert run is not None
        (ended,) = await store.end_runs([completed(run, (), b"{}", POLICY, draw())])

        assert isinstance(ended, Job)
        assert (ended.job_id, ended.state) == (job.job_id, JobState.SUCCEEDED)
        assert [pool.name for pool in await pools.drained(AT_ONCE)] == ["gold"]
        assert await pools.remove("gold")
