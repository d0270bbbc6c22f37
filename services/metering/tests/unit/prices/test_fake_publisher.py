"""The fake price changes keep the contract of the real ones."""

from collections.abc import Callable

import pytest
from metering.prices.set_price import PriceChangePublisher

from services.metering.tests.fakes import FakePriceChanges, FakePubSub
from services.metering.tests.price_changes_contract import PriceChangesContract, Replicas


class FakeReplicas(Replicas):
    def __init__(self) -> None:
        super().__init__()
        self._pub_sub = FakePubSub()

    async def subscribe(self, invalidate: Callable[[], None]) -> PriceChangePublisher:
        return FakePriceChanges(self._pub_sub, invalidate)

    async def disconnect(self) -> None:
        self._pub_sub.down = True

    async def reconnect(self) -> None:
        self._pub_sub.recover()


class TestFakePriceChanges(PriceChangesContract):
    @pytest.fixture
    def replicas(self) -> Replicas:
        return FakeReplicas()
