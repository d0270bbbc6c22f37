"""The stores in memory keep the contract."""

import pytest

from services.gateway.tests.fakes.identity_store import FakeIdentityStore
from services.gateway.tests.identity_contract import IdentityStoreContract


class TestFakeIdentityStore(IdentityStoreContract):
    @pytest.fixture
    def store(self) -> FakeIdentityStore:
        return FakeIdentityStore()
