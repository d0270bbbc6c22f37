"""The fake keeps the contract of the real store."""

import pytest

from services.orchestrator.tests.fakes import FakeRouteStore
from services.orchestrator.tests.route_store_contract import RouteStoreContract


class TestFakeRouteStore(RouteStoreContract):
    @pytest.fixture
    def store(self) -> FakeRouteStore:
        return FakeRouteStore()

    @pytest.fixture
    def editor(self, store: FakeRouteStore) -> FakeRouteStore:
        return store
