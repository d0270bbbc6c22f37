"""The store of pools in memory keeps the contract."""

import pytest
from chassis.testing import FakeClock

from services.orchestrator.tests.pool_fakes import FakePoolStore
from services.orchestrator.tests.pool_store_contract import PoolStoreContract


class TestFakePoolStore(PoolStoreContract):
    @pytest.fixture
    def pools(self) -> FakePoolStore:
        return FakePoolStore(FakeClock())
