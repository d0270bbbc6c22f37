"""The contract of DeletionQueue, on the fake."""

from services.retrieval.tests.contracts.deletions import DeletionQueueContract


class TestFakeDeletionQueue(DeletionQueueContract):
    pass
