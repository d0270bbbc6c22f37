"""Methods of RetrievalService about store migrations. The tenant is the caller's."""

from collections.abc import Callable

from argosy.retrieval.v1 import retrieval_pb2 as pb
from chassis.errors import InvalidRequest
from values.roles import current_member

from retrieval.files.page import page_size
from retrieval.store_migrations.model import MigrationKey
from retrieval.store_migrations.ports import StoreMigrations
from retrieval.store_migrations.protos import store_migration_to_proto
from retrieval.store_migrations.start import start_migration
from retrieval.vector_stores.model import MODEL, EmbeddingModels


class StoreMigrationMethods:
    def __init__(
        self, migrations: StoreMigrations, models: EmbeddingModels, wake: Callable[[MigrationKey], object]
    ) -> None:
        """`wake` is called with a migration that was started."""
        self._migrations = migrations
        self._models = models
        self._wake = wake

    async def start(self, request: pb.StartStoreMigrationRequest) -> pb.StartStoreMigrationResponse:
        principal = current_member()
        if not request.embedding_model:
            raise InvalidRequest("name the embedding model that the vector store is to have", param=MODEL)
        migration = await start_migration(
            principal,
            request.vector_store_id,
            request.embedding_model,
            migrations=self._migrations,
            models=self._models,
            wake=self._wake,
        )
        return pb.StartStoreMigrationResponse(migration=store_migration_to_proto(migration))

    async def get(self, request: pb.GetStoreMigrationRequest) -> pb.GetStoreMigrationResponse:
        tenant_id = current_member().tenant_id
        migration = await self._migrations.get(tenant_id, request.vector_store_id, request.migration_id)
        return pb.GetStoreMigrationResponse(migration=store_migration_to_proto(migration))

    async def list(self, request: pb.ListStoreMigrationsRequest) -> pb.ListStoreMigrationsResponse:
        page = await self._migrations.list(
            current_member().tenant_id,
            request.vector_store_id,
            limit=page_size(request.limit, default=20, maximum=100),
            after=request.after,
        )
        migrations = [store_migration_to_proto(migration) for migration in page.items]
        return pb.ListStoreMigrationsResponse(migrations=migrations, has_more=page.has_more)

    async def cancel(self, request: pb.CancelStoreMigrationRequest) -> pb.CancelStoreMigrationResponse:
        tenant_id = current_member().tenant_id
        migration = await self._migrations.cancel(tenant_id, request.vector_store_id, request.migration_id)
        return pb.CancelStoreMigrationResponse(migration=store_migration_to_proto(migration))
