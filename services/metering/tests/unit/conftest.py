import pytest
from chassis.testing import FakeClock
from metering.grpc import MeteringServicer

from services.metering.tests.fakes import Stores, fake_stores
from services.metering.tests.servicer import CAP, a_servicer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def stores(clock: FakeClock) -> Stores:
    return fake_stores(clock, CAP)


@pytest.fixture
def servicer(clock: FakeClock, stores: Stores) -> MeteringServicer:
    return a_servicer(clock, stores)
