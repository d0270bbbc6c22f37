"""The contract of StoreMigrations and MigrationRuns, on Postgres."""

from services.retrieval.tests.contracts.store_migrations import StoreMigrationsContract


class TestPostgresStoreMigrations(StoreMigrationsContract):
    pass
