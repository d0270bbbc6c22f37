"""The contract of quotas, on the fakes."""

from services.retrieval.tests.contracts.quotas import QuotasContract


class TestFakeQuotas(QuotasContract):
    pass
