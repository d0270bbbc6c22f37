"""The stores in Postgres keep the contracts."""

from services.metering.tests.attempts_contract import AttemptsContract
from services.metering.tests.classes_contract import ClassesContract
from services.metering.tests.held_hits_contract import HeldHitsContract
from services.metering.tests.hits_contract import HitsContract
from services.metering.tests.right_sizing_contract import RightSizingContract
from services.metering.tests.settlement_contract import SettlementContract
from services.metering.tests.stores_contract import StoresContract


class TestPostgresStores(StoresContract, SettlementContract):
    """With the fixture `stores` of this folder."""


class TestPostgresClasses(ClassesContract):
    pass


class TestPostgresHits(HitsContract):
    pass


class TestPostgresHeldHits(HeldHitsContract):
    pass


class TestPostgresRightSizing(RightSizingContract):
    pass


class TestPostgresAttempts(AttemptsContract):
    pass
