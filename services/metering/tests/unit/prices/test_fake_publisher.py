"""The fake news keep the promises of the real ones."""

from collections.abc import Callable

import pytest
from metering.domain.prices import PriceNews

from services.metering.tests.fakes import Air, FakeNews
from services.metering.tests.news_contract import NewsContract, Replicas


class FakeReplicas(Replicas):
    def __init__(self) -> None:
        super().__init__()
        self._air = Air()

    async def news(self, forget: Callable[[], None]) -> PriceNews:
        return FakeNews(self._air, forget)

    async def cut(self) -> None:
        self._air.cut = True

    async def mend(self) -> None:
        self._air.mend()


class TestFakeNews(NewsContract):
    @pytest.fixture
    def replicas(self) -> Replicas:
        return FakeReplicas()
