"""An echo service and a stub for it over the loopback, by the exchange and by grpc.aio."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chassis.grpc import Channel
from chassis.tenancy import as_caller
from chassis.testing import a_caller
from chassis.testing.grpc import serving
from chassis.testing.grpc_aio import GrpcAioChannel

from libs.chassis.tests.echo_service import SERVICE, EchoService, EchoStub, register


@pytest.fixture
async def echo() -> EchoService:
    return EchoService()


ChannelType = type[Channel] | type[GrpcAioChannel]


@pytest.fixture(params=[Channel, GrpcAioChannel], ids=["exchange", "grpc_aio"])
def channel_type(request: pytest.FixtureRequest) -> ChannelType:
    """Tests that use it run over both channels, because both must behave alike."""
    channel_type: ChannelType = request.param
    return channel_type


@pytest.fixture
async def stub(echo: EchoService, channel_type: ChannelType) -> AsyncIterator[EchoStub]:
    async with serving((register, echo, SERVICE), channel_type=channel_type) as channel:
        with as_caller(a_caller()):
            yield EchoStub(channel)
