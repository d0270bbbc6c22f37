"""The contract of quotas, on Postgres."""

from services.retrieval.tests.contracts.quotas import QuotasContract


class TestPostgresQuotas(QuotasContract):
    pass
