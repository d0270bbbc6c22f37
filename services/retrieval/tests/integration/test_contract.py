"""The contract of the ports, on Postgres with pgvector."""

from services.retrieval.tests.contract import FilesContract, IndexContract, IngestsContract, VectorStoresContract


class TestPostgresFiles(FilesContract):
    pass


class TestPostgresVectorStores(VectorStoresContract):
    pass


class TestPostgresIngests(IngestsContract):
    pass


class TestPostgresIndex(IndexContract):
    pass
