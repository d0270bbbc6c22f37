"""The contract of SearchIndex, on the fake."""

from services.retrieval.tests.contracts.filters import FiltersContract
from services.retrieval.tests.contracts.search import SearchIndexContract


class TestFakeSearchIndex(SearchIndexContract):
    pass


class TestFakeFilters(FiltersContract):
    pass
