"""Store migrations as messages."""

from argosy.retrieval.v1 import retrieval_pb2 as pb
from values.protos import timestamp_to_proto

from retrieval.store_migrations.model import StoreMigration, StoreMigrationState

_STATE_TO_PROTO = {
    StoreMigrationState.IN_PROGRESS: pb.STORE_MIGRATION_STATE_IN_PROGRESS,
    StoreMigrationState.COMPLETED: pb.STORE_MIGRATION_STATE_COMPLETED,
    StoreMigrationState.FAILED: pb.STORE_MIGRATION_STATE_FAILED,
    StoreMigrationState.CANCELLED: pb.STORE_MIGRATION_STATE_CANCELLED,
}


def store_migration_to_proto(migration: StoreMigration) -> pb.StoreMigration:
    return pb.StoreMigration(
        migration_id=migration.migration_id,
        vector_store_id=migration.vector_store_id,
        embedding_model=migration.embedding_model,
        state=_STATE_TO_PROTO[migration.state],
        chunks=migration.chunks,
        migrated_chunks=migration.migrated_chunks,
        embedded_chunks=migration.embedded_chunks,
        reused_chunks=migration.reused_chunks,
        unused_vectors_deleted=migration.unused_vectors_deleted,
        failure_reason=migration.failure_reason,
        failure_message=migration.failure_message,
        created_at=timestamp_to_proto(migration.created_at),
        finished_at=None if migration.finished_at is None else timestamp_to_proto(migration.finished_at),
    )
