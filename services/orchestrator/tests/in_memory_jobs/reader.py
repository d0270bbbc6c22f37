"""Jobs in memory, as their tenants read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from orchestrator.jobs.model import Job, JobFilter, JobKey, JobState

from services.orchestrator.tests.in_memory_jobs.tables import JobTables


class InMemoryJobReader(JobTables):
    """Implements `JobReader`."""

    async def get(self, key: JobKey) -> Job | None:
        known = self.known(key)
        return None if known is None else known[0]

    async def list_jobs(self, tenant_id: str, wanted: JobFilter) -> list[Job]:
        jobs = [
            job for job in self.all_jobs() if job.tenant_id == tenant_id and (job.batch_id or "") == wanted.batch_id
        ]
        return _listed(jobs, wanted)

    async def list_finished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        jobs = [job for job, _ in self.finished.values() if (job.tenant_id, job.batch_id) == (tenant_id, batch_id)]
        return sorted((job for job in jobs if job.job_id > after), key=_by_id)[:limit]

    async def is_running(self, tenant_id: str, batch_id: str) -> bool:
        jobs = await self.list_unfinished(tenant_id, batch_id, "", len(self.rows))
        return any(job.state is not JobState.QUARANTINED for job in jobs)

    async def list_unfinished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        jobs = [row.job for row in self.rows.values()]
        jobs = [job for job in jobs if (job.tenant_id, job.batch_id) == (tenant_id, batch_id) and job.job_id > after]
        return sorted(jobs, key=_by_id)[:limit]

    async def list_all(self, wanted: JobFilter, tenant_id: str) -> list[Job]:
        return _listed((row.job for row in self.rows.values() if tenant_id in {"", row.job.tenant_id}), wanted)


def _by_id(job: Job) -> str:
    return job.job_id


def _listed(jobs: Iterable[Job], wanted: JobFilter) -> list[Job]:
    found = [
        replace(job, result=b"")
        for job in jobs
        if (not wanted.states or job.state in wanted.states)
        and wanted.endpoint in {"", job.endpoint}
        and wanted.model in {"", job.model}
        and (not wanted.after or job.job_id < wanted.after)
    ]
    return sorted(found, key=_by_id, reverse=True)[: wanted.limit + 1]
