"""Starting a migration."""

from collections.abc import Callable

from chassis.tenancy import Principal

from retrieval.store_migrations.model import MigrationKey, StoreMigration
from retrieval.store_migrations.ports import StoreMigrations
from retrieval.vector_stores.model import EmbeddingModels


async def start_migration(
    principal: Principal,
    vector_store_id: str,
    model: str,
    *,
    migrations: StoreMigrations,
    models: EmbeddingModels,
    wake: Callable[[MigrationKey], object],
) -> StoreMigration:
    """Start the migration, and `wake` what runs it. Raises InvalidRequest, and what `StoreMigrations.start` raises."""
    migration = await migrations.start(principal, vector_store_id, models.checked(model), models.own)
    wake(MigrationKey(principal.tenant_id, vector_store_id, migration.migration_id))
    return migration
