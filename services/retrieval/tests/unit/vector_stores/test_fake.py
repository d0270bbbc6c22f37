"""The contract of VectorStores, on the fake."""

from services.retrieval.tests.contracts.vector_stores import VectorStoresContract


class TestFakeVectorStores(VectorStoresContract):
    pass
