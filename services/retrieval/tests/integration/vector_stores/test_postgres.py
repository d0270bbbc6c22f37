"""The contract of VectorStores, on Postgres."""

from services.retrieval.tests.contracts.vector_stores import VectorStoresContract


class TestPostgresVectorStores(VectorStoresContract):
    pass
