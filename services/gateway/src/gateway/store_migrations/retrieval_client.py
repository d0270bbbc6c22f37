"""Store migrations in retrieval, over gRPC. Another tenant's vector store is not found."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from argosy.retrieval.v1.retrieval_pb2_grpc import RetrievalServiceStub
from chassis.grpc import Channel
from values.protos import proto_to_timestamp

from gateway.store_migrations.schemas import ChunkCounts, StoreMigrationRead, StoreMigrationStatus
from gateway.vector_stores.schemas import LastError
from gateway.web.pagination import PageRequest
from gateway.web.schemas import ListResponse, unix_seconds

_PROTO_TO_STATUS: dict[pb.StoreMigrationState.ValueType, StoreMigrationStatus] = {
    pb.STORE_MIGRATION_STATE_IN_PROGRESS: "in_progress",
    pb.STORE_MIGRATION_STATE_COMPLETED: "completed",
    pb.STORE_MIGRATION_STATE_FAILED: "failed",
    pb.STORE_MIGRATION_STATE_CANCELLED: "cancelled",
}


class StoreMigrationsClient:
    """Acts on behalf of the current caller. All calls raise retrieval's error, or Unavailable."""

    def __init__(self, channel: Channel) -> None:
        self._stub = RetrievalServiceStub(channel)

    async def start(self, vector_store_id: str, embedding_model: str) -> StoreMigrationRead:
        """Raises VECTOR_STORE_NOT_FOUND, STORE_MIGRATION_RUNNING, INVALID_REQUEST."""
        request = pb.StartStoreMigrationRequest(vector_store_id=vector_store_id, embedding_model=embedding_model)
        return proto_to_store_migration((await self._stub.StartStoreMigration(request)).migration)

    async def get(self, vector_store_id: str, migration_id: str) -> StoreMigrationRead:
        """Raises VECTOR_STORE_NOT_FOUND, STORE_MIGRATION_NOT_FOUND."""
        request = pb.GetStoreMigrationRequest(vector_store_id=vector_store_id, migration_id=migration_id)
        return proto_to_store_migration((await self._stub.GetStoreMigration(request)).migration)

    async def list(self, vector_store_id: str, page: PageRequest) -> ListResponse[StoreMigrationRead]:
        """Raises VECTOR_STORE_NOT_FOUND."""
        request = pb.ListStoreMigrationsRequest(vector_store_id=vector_store_id, limit=page.limit, after=page.after)
        response = await self._stub.ListStoreMigrations(request)
        return ListResponse.of(map(proto_to_store_migration, response.migrations), has_more=response.has_more)

    async def cancel(self, vector_store_id: str, migration_id: str) -> StoreMigrationRead:
        """Raises VECTOR_STORE_NOT_FOUND, STORE_MIGRATION_NOT_FOUND."""
        request = pb.CancelStoreMigrationRequest(vector_store_id=vector_store_id, migration_id=migration_id)
        return proto_to_store_migration((await self._stub.CancelStoreMigration(request)).migration)


def proto_to_store_migration(message: pb.StoreMigration) -> StoreMigrationRead:
    """Read a migration. A state of a newer version is shown as in progress."""
    status = _PROTO_TO_STATUS.get(message.state, "in_progress")
    error = LastError(code=message.failure_reason.lower(), message=message.failure_message)
    finished = unix_seconds(proto_to_timestamp(message.finished_at)) if message.HasField("finished_at") else None
    return StoreMigrationRead(
        id=message.migration_id,
        created_at=unix_seconds(proto_to_timestamp(message.created_at)),
        finished_at=finished,
        vector_store_id=message.vector_store_id,
        embedding_model=message.embedding_model,
        status=status,
        progress_percent=percent(message),
        chunks=ChunkCounts(
            total=message.chunks,
            migrated=message.migrated_chunks,
            embedded=message.embedded_chunks,
            reused=message.reused_chunks,
        ),
        unused_vectors_deleted=message.unused_vectors_deleted,
        last_error=error if status == "failed" else None,
    )


def percent(message: pb.StoreMigration) -> float:
    """The share of chunks that have a vector of the new model; 100 only when the store has changed."""
    if message.state == pb.STORE_MIGRATION_STATE_COMPLETED:
        return 100.0
    return min(99.9, round(100 * message.migrated_chunks / max(message.chunks, 1), 1))
