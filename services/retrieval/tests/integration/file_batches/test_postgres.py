"""The contract of FileBatches, on Postgres."""

from services.retrieval.tests.contracts.file_batches import FileBatchesContract


class TestPostgresFileBatches(FileBatchesContract):
    pass
