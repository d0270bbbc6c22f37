"""The contract of the ports, on the fakes."""

from services.retrieval.tests.contract import (
    FilesContract,
    IngestionStoreContract,
    SearchIndexContract,
    VectorStoresContract,
)


class TestFakeFiles(FilesContract):
    pass


class TestFakeVectorStores(VectorStoresContract):
    pass


class TestFakeIngests(IngestionStoreContract):
    pass


class TestFakeIndex(SearchIndexContract):
    pass
