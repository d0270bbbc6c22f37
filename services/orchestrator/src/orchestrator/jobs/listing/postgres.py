"""Reads jobs in Postgres."""

from typing import Any

from chassis.postgres import Database

from orchestrator.jobs.model import FINAL, Job, JobFilter, JobKey, JobState
from orchestrator.jobs.rows import row_to_job
from orchestrator.jobs.statements import FINISHED_JOB, JOB

_NOT_FINAL = f"{JOB}, NULL::timestamptz AS finished_at, NULL::timestamptz AS expires_at"

_GET = f"""
SELECT {_NOT_FINAL}, NULL::bytea AS result FROM jobs AS j WHERE j.tenant_id = $1 AND j.job_id = $2
UNION ALL
SELECT {FINISHED_JOB}, j.result FROM finished_jobs AS j WHERE j.tenant_id = $1 AND j.job_id = $2
"""  # noqa: S608 - constants

_WANTED = """
j.tenant_id = $1 AND ($2 = '' OR j.job_id < $2) AND (cardinality($3::text[]) = 0 OR j.state = ANY ($3))
AND ($4 = '' OR j.endpoint = $4) AND ($5 = '' OR j.model = $5) AND {batch}
ORDER BY j.job_id DESC LIMIT $7
"""
_OF_NO_BATCH = "j.batch_id IS NULL AND $6 = ''"
_OF_A_BATCH = "j.batch_id = $6"


def _list(batch: str) -> str:
    wanted = _WANTED.format(batch=batch)
    return f"""
    (SELECT {_NOT_FINAL} FROM jobs AS j WHERE {wanted})
    UNION ALL
    (SELECT {FINISHED_JOB} FROM finished_jobs AS j WHERE {wanted})
    ORDER BY job_id DESC LIMIT $7
    """  # noqa: S608 - constants


_LIST, _LIST_BATCH = _list(_OF_NO_BATCH), _list(_OF_A_BATCH)

# A page has at least one job, and the next only while the results before it are not too large together. The size of a
# result is known without reading it.
_LIST_FINISHED = f"""
SELECT * FROM (
    SELECT {FINISHED_JOB}, j.result,
        sum(coalesce(octet_length(j.result), 0)) OVER (ORDER BY j.job_id)
            - coalesce(octet_length(j.result), 0) AS before
    FROM (
        SELECT * FROM finished_jobs
        WHERE tenant_id = $1 AND batch_id = $2 AND job_id > $3 ORDER BY job_id LIMIT $4
    ) AS j
) AS page WHERE before <= $5 ORDER BY job_id
"""  # noqa: S608 - constants
MAX_PAGE_BYTES = 16 * 1024 * 1024

_LIST_UNFINISHED = f"""
SELECT {_NOT_FINAL} FROM jobs AS j
WHERE j.tenant_id = $1 AND j.batch_id = $2 AND j.job_id > $3 ORDER BY j.job_id LIMIT $4
"""  # noqa: S608 - constants

_IS_RUNNING = """
SELECT EXISTS (SELECT FROM jobs AS j WHERE j.tenant_id = $1 AND j.batch_id = $2 AND j.state <> 'quarantined')
"""

# Quarantined jobs have an index of their own; other states are for an operator who looks at one tenant.
_LIST_ALL = f"""
SELECT {_NOT_FINAL} FROM jobs AS j
WHERE j.state = ANY ($1::text[]) AND ($2 = '' OR j.tenant_id = $2) AND ($3 = '' OR j.job_id < $3)
ORDER BY j.job_id DESC LIMIT $4
"""  # noqa: S608 - constants
_LIST_QUARANTINED = _LIST_ALL.replace(
    "j.state = ANY ($1::text[])", "j.state = 'quarantined' AND cardinality($1::text[]) > 0"
)


class PostgresJobReader:
    """Implements `JobReader`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key: JobKey) -> Job | None:
        async with self._database.tenant(key.tenant_id) as connection:
            row = await connection.fetchrow(_GET, *key)
        return None if row is None else _with_result(row)

    async def list_jobs(self, tenant_id: str, wanted: JobFilter) -> list[Job]:
        states = [state.value for state in wanted.states]
        arguments = (tenant_id, wanted.after, states, wanted.endpoint, wanted.model, wanted.batch_id, wanted.limit + 1)
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIST_BATCH if wanted.batch_id else _LIST, *arguments)
        return [row_to_job(row) for row in rows]

    async def list_finished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIST_FINISHED, tenant_id, batch_id, after, limit, MAX_PAGE_BYTES)
        return [_with_result(row) for row in rows]

    async def list_unfinished(self, tenant_id: str, batch_id: str, after: str, limit: int) -> list[Job]:
        async with self._database.tenant(tenant_id) as connection:
            rows = await connection.fetch(_LIST_UNFINISHED, tenant_id, batch_id, after, limit)
        return [row_to_job(row) for row in rows]

    async def is_running(self, tenant_id: str, batch_id: str) -> bool:
        async with self._database.tenant(tenant_id) as connection:
            return bool(await connection.fetchval(_IS_RUNNING, tenant_id, batch_id))

    async def list_all(self, wanted: JobFilter, tenant_id: str) -> list[Job]:
        states = [state.value for state in (wanted.states or {JobState.QUARANTINED}) - FINAL]
        query = _LIST_QUARANTINED if states == [JobState.QUARANTINED.value] else _LIST_ALL
        arguments = (states, tenant_id, wanted.after, wanted.limit + 1)
        rows = await self._database.system().fetch(query, *arguments)
        return [row_to_job(row) for row in rows]


def _with_result(row: Any) -> Job:
    return row_to_job(row, row["result"] or b"")
