"""The store of jobs in a real Postgres keeps the contract."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from argosy.metering.v1.events_pb2 import UsageRecorded
from argosy.orchestration.v1.events_pb2 import JobDispatched, JobFinished
from chassis.postgres import Database
from orchestrator.jobs.outbox import JOB_FINISHED
from orchestrator.jobs.postgres import PostgresJobStore
from orchestrator.jobs.protos import PROTO_TO_STATE
from orchestrator.usage.outbox import USAGE_RECORDED

from services.orchestrator.tests.job_store_contract.subject import Counters
from services.orchestrator.tests.job_store_contract.suite import JobStoreContract

TABLES = ("jobs", "finished_jobs", "tenant_queues", "queue_pauses", "job_rounds", "job_workers")
TIMES = {
    "jobs": ("created_at", "due_at", "deadline_at", "dispatched_at", "started_at"),
    "job_workers": ("seen_at",),
    "job_rounds": ("interactive_at", "standard_at", "batch_at"),
}


class JobsInPostgres:
    def __init__(self, database: Database, owner: Any) -> None:
        self._owner = owner
        self.store = PostgresJobStore(database, lambda: None, lambda: None)

    async def pass_time(self, duration: timedelta) -> None:
        """Move all times back: the database's clock cannot be moved."""
        for table, columns in TIMES.items():
            moved = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self._owner.execute(f"UPDATE orchestration.{table} SET {moved}", duration)

    async def events(self) -> list[tuple[str, str, int | str]]:
        found: list[tuple[str, str, int | str]] = []
        for row in await self._owner.fetch("SELECT topic, value FROM orchestration.outbox"):
            if row["topic"] == USAGE_RECORDED:
                usage = UsageRecorded.FromString(row["value"])
                found.append(("usage", usage.request_id, len(usage.attempts)))
            elif row["topic"] == JOB_FINISHED:
                job = JobFinished.FromString(row["value"]).job
                found.append(("finished", job.id, PROTO_TO_STATE[job.state].value))
            else:
                dispatched = JobDispatched.FromString(row["value"])
                found.append(("dispatched", dispatched.job_id, dispatched.epoch))
        return sorted(found)

    async def counters(self) -> Counters:
        rows = await self._owner.fetch("SELECT * FROM orchestration.tenant_queues")
        counts = ("queued", "queued_tokens", "dispatched", "running")
        return {
            (row["tenant_id"], row["pool"], row["lane"]): (
                row[counts[0]],
                row[counts[1]],
                row[counts[2]],
                row[counts[3]],
            )
            for row in rows
        }

    async def counted(self) -> Counters:
        rows = await self._owner.fetch(
            "SELECT tenant_id, pool, lane, count(*) FILTER (WHERE state = 'queued') AS queued,"
            " coalesce(sum(cost_tokens) FILTER (WHERE state = 'queued'), 0)::bigint AS tokens,"
            " count(*) FILTER (WHERE state = 'dispatched') AS dispatched,"
            " count(*) FILTER (WHERE state = 'running') AS running FROM orchestration.jobs GROUP BY 1, 2, 3"
        )
        return {tuple(row)[:3]: tuple(row)[3:] for row in rows}

    async def pause(self, tenant: str, pool: str, model: str) -> None:
        await self._owner.execute("INSERT INTO orchestration.queue_pauses VALUES ($1, $2, $3)", tenant, pool, model)


class TestPostgresJobStore(JobStoreContract):
    @pytest.fixture
    async def jobs(self, database: Database, owner: Any) -> JobsInPostgres:
        await owner.execute("; ".join(f"DELETE FROM orchestration.{table}" for table in TABLES))
        jobs = JobsInPostgres(database, owner)
        await jobs.store.keep_partitions(3)
        return jobs
