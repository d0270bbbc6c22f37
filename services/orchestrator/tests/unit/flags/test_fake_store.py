"""The store in memory that other tests use."""

import pytest

from services.orchestrator.tests.fake_flags import FakeFlagStore
from services.orchestrator.tests.flag_store_contract import FlagStoreContract


class TestFakeFlagStore(FlagStoreContract):
    @pytest.fixture
    def store(self) -> FakeFlagStore:
        return FakeFlagStore()
