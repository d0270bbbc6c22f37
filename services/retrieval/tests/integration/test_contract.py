"""The contract of the ports, on Postgres with pgvector."""

from services.retrieval.tests.contract import (
    FilesContract,
    IngestionStoreContract,
    SearchIndexContract,
    VectorStoresContract,
)


class TestPostgresFiles(FilesContract):
    pass


class TestPostgresVectorStores(VectorStoresContract):
    pass


class TestPostgresIngests(IngestionStoreContract):
    pass


class TestPostgresIndex(SearchIndexContract):
    pass
