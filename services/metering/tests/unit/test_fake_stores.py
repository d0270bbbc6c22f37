"""The stores in memory keep the contracts of those in Postgres."""

import pytest
from chassis.testing import FakeClock

from services.metering.tests.attempts_contract import AttemptsContract
from services.metering.tests.classes_contract import ClassesContract
from services.metering.tests.fakes import Stores, fake_stores
from services.metering.tests.held_hits_contract import HeldHitsContract
from services.metering.tests.hits_contract import HitsContract
from services.metering.tests.right_sizing_contract import RightSizingContract
from services.metering.tests.settlement_contract import SettlementContract
from services.metering.tests.stores_contract import StoresContract


class TestFakeStores(StoresContract, SettlementContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return fake_stores(FakeClock())


class TestFakeClasses(ClassesContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return fake_stores(FakeClock())


class TestFakeHits(HitsContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return fake_stores(FakeClock())


class TestFakeHeldHits(HeldHitsContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return fake_stores(FakeClock())


class TestFakeRightSizing(RightSizingContract):
    @pytest.fixture
    def stores(self) -> Stores:
        return fake_stores(FakeClock())


class TestFakeAttempts(AttemptsContract):
    pass
