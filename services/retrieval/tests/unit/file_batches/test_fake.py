"""The contract of FileBatches, on the fake."""

from services.retrieval.tests.contracts.file_batches import FileBatchesContract


class TestFakeFileBatches(FileBatchesContract):
    pass
