"""Pools in Postgres: tables `worker_pools` and `pool_tenants`."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from chassis.postgres import Database

from orchestrator.pools.model import Pool, PoolQuota, PoolQuotaExceeded, PoolSpec, TenantHasPool

POOLS: Final = """
SELECT p.name, p.min_replicas, p.max_replicas, p.created_at, p.draining_since,
    ARRAY(SELECT t.tenant_id FROM pool_tenants AS t WHERE t.pool = p.name ORDER BY t.tenant_id) AS tenant_ids,
    (SELECT coalesce(sum(q.queued + q.dispatched + q.running), 0)::bigint FROM tenant_queues AS q
        WHERE q.pool = p.name)
    + (SELECT count(*) FROM jobs AS j WHERE j.pool = p.name AND j.state = 'quarantined') AS unfinished_jobs
FROM worker_pools AS p WHERE p.tenant_id = '*' AND ($1::text IS NULL OR p.name = $1) ORDER BY p.name
"""
# Changes of pools come one after the other: a quota is over all of them.
LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('orchestration.worker_pools', 0))"
USED: Final = """
SELECT count(*) AS pools, coalesce(sum(max_replicas), 0)::bigint AS replicas FROM worker_pools
WHERE tenant_id = '*' AND name <> $1
"""
ELSEWHERE: Final = """
SELECT tenant_id, pool FROM pool_tenants WHERE tenant_id = ANY ($1) AND pool <> $2 ORDER BY tenant_id LIMIT 1
"""
PUT: Final = """
INSERT INTO worker_pools (tenant_id, name, min_replicas, max_replicas) VALUES ('*', $1, $2, $3)
ON CONFLICT (tenant_id, name) DO UPDATE SET
    min_replicas = excluded.min_replicas, max_replicas = excluded.max_replicas, draining_since = NULL
"""
LEAVE: Final = "DELETE FROM pool_tenants WHERE pool = $1 AND tenant_id <> ALL ($2)"
JOIN: Final = """
INSERT INTO pool_tenants (tenant_id, pool) SELECT tenant_id, $1 FROM unnest($2::text[]) AS t (tenant_id)
ON CONFLICT (tenant_id) DO NOTHING
"""
DRAIN: Final = """
UPDATE worker_pools SET draining_since = now() WHERE tenant_id = '*' AND name = $1 AND draining_since IS NULL
"""
SETTLED: Final = """
SELECT name FROM worker_pools WHERE tenant_id = '*' AND draining_since <= now() - $1::interval
"""
REMOVE: Final = "DELETE FROM worker_pools WHERE tenant_id = '*' AND name = $1"


class PostgresPoolStore:
    """Implements `PoolStore`. The submission of a job reads `pool_tenants` in its own statement."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> Pool | None:
        async with self._database.system() as connection:
            return await _get(connection, name)

    async def list(self) -> Sequence[Pool]:
        async with self._database.system() as connection:
            return [row_to_pool(row) for row in await connection.fetch(POOLS, None)]

    async def put(self, spec: PoolSpec, quota: PoolQuota) -> Pool:
        tenants = sorted(spec.tenant_ids)
        async with self._database.system() as connection:
            await connection.execute(LOCK)
            used = await connection.fetchrow(USED, spec.name)
            _check_quota(used["pools"] + 1, used["replicas"] + spec.max_replicas, quota)
            other = await connection.fetchrow(ELSEWHERE, tenants, spec.name)
            if other is not None:
                raise TenantHasPool(f"{other['tenant_id']} has the pool {other['pool']}", param="tenant_ids")
            await connection.execute(PUT, spec.name, spec.min_replicas, spec.max_replicas)
            await connection.execute(LEAVE, spec.name, tenants)
            await connection.execute(JOIN, spec.name, tenants)
            return row_to_pool(await connection.fetchrow(POOLS, spec.name))

    async def drain(self, name: str) -> Pool | None:
        async with self._database.system() as connection:
            await connection.execute(LOCK)
            await connection.execute(DRAIN, name)
            await connection.execute(LEAVE, name, [])
            return await _get(connection, name)

    async def drained(self, settle: timedelta) -> Sequence[Pool]:
        async with self._database.system() as connection:
            settled = {row["name"] for row in await connection.fetch(SETTLED, settle)}
            pools = [row_to_pool(row) for row in await connection.fetch(POOLS, None)] if settled else []
        return [pool for pool in pools if pool.name in settled and not pool.unfinished_jobs]

    async def remove(self, name: str) -> bool:
        async with self._database.system() as connection:
            await connection.execute(LOCK)
            pool = await _get(connection, name)
            if pool is None or pool.draining_since is None or pool.unfinished_jobs:
                return False
            await connection.execute(REMOVE, name)
        return True


def _check_quota(pools: int, replicas: int, quota: PoolQuota) -> None:
    if pools > quota.max_pools:
        raise PoolQuotaExceeded(f"{quota.max_pools} pools may be made here, and there are as many", param="name")
    if replicas > quota.max_replicas:
        raise PoolQuotaExceeded(
            f"with this pool all pools could have {replicas} replicas, {quota.max_replicas} are allowed",
            param="max_replicas",
        )


async def _get(connection: Any, name: str) -> Pool | None:
    row = await connection.fetchrow(POOLS, name)
    return None if row is None else row_to_pool(row)


def row_to_pool(row: Mapping[str, Any]) -> Pool:
    return Pool(
        name=row["name"],
        tenant_ids=frozenset(row["tenant_ids"]),
        min_replicas=row["min_replicas"],
        max_replicas=row["max_replicas"],
        created_at=row["created_at"],
        draining_since=row["draining_since"],
        unfinished_jobs=row["unfinished_jobs"],
    )
