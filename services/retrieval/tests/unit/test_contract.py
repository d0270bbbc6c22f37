"""The contract of the ports, on the fakes."""

from services.retrieval.tests.contract import FilesContract, IndexContract, IngestsContract, VectorStoresContract


class TestFakeFiles(FilesContract):
    pass


class TestFakeVectorStores(VectorStoresContract):
    pass


class TestFakeIngests(IngestsContract):
    pass


class TestFakeIndex(IndexContract):
    pass
