"""Pools as messages."""

from argosy.orchestration.v1 import pools_pb2 as pb

from orchestrator.pools.model import Pool, PoolSpec, PoolState, PoolWorkers

STATE_TO_PROTO = {PoolState.ACTIVE: pb.POOL_STATE_ACTIVE, PoolState.DRAINING: pb.POOL_STATE_DRAINING}


def proto_to_spec(message: pb.PutPoolRequest) -> PoolSpec:
    return PoolSpec(
        name=message.name,
        tenant_ids=frozenset(message.tenant_ids),
        min_replicas=message.min_replicas,
        max_replicas=message.max_replicas,
    )


def pool_to_proto(pool: Pool, workers: PoolWorkers | None = None) -> pb.Pool:
    message = pb.Pool(
        name=pool.name,
        tenant_ids=sorted(pool.tenant_ids),
        min_replicas=pool.min_replicas,
        max_replicas=pool.max_replicas,
        state=STATE_TO_PROTO[pool.state],
        unfinished_jobs=pool.unfinished_jobs,
    )
    message.created_at.FromDatetime(pool.created_at)
    if workers is not None:
        message.replicas, message.ready_replicas = workers
    return message
