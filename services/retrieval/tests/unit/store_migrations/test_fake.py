"""The contract of StoreMigrations and MigrationRuns, on the fakes."""

from services.retrieval.tests.contracts.store_migrations import StoreMigrationsContract


class TestFakeStoreMigrations(StoreMigrationsContract):
    pass
