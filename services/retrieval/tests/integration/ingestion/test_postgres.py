"""The contract of IngestionStore, on Postgres."""

from services.retrieval.tests.contracts.ingestion import IngestionStoreContract


class TestPostgresIngestionStore(IngestionStoreContract):
    pass
