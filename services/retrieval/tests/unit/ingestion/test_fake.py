"""The contract of IngestionStore, on the fake."""

from services.retrieval.tests.contracts.ingestion import IngestionStoreContract


class TestFakeIngestionStore(IngestionStoreContract):
    pass
