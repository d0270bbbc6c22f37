"""The contract of DeletionQueue, on Postgres."""

from services.retrieval.tests.contracts.deletions import DeletionQueueContract


class TestPostgresDeletionQueue(DeletionQueueContract):
    pass
