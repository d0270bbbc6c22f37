"""A parrot, and a stub that reaches it over the loopback, by the exchange and by ordinary gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chassis.grpc import Channel, OrdinaryChannel
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving

from libs.chassis.tests.parrot import SERVICE, Parrot, ParrotStub, register


@pytest.fixture
async def parrot() -> Parrot:
    return Parrot()


Carrier = type[Channel] | type[OrdinaryChannel]


@pytest.fixture(params=[Channel, OrdinaryChannel], ids=["exchange", "ordinary"])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    """Each test that asks for it runs both ways: nobody can tell what carries the calls."""
    carrier: Carrier = request.param
    return carrier


@pytest.fixture
async def stub(parrot: Parrot, carrier: Carrier) -> AsyncIterator[ParrotStub]:
    async with serving((register, parrot, SERVICE), carrier=carrier) as channel:
        with as_caller(a_caller()):
            yield ParrotStub(channel)
