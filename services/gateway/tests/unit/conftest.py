"""A gateway for each test, and clients of it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.tests.fakes.gateway import GatewayFixture, run_gateway


@pytest.fixture
async def gateway() -> AsyncIterator[GatewayFixture]:
    async with run_gateway() as gateway:
        yield gateway


@pytest.fixture
async def demo(gateway: GatewayFixture) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client("demo") as client:
        yield client


@pytest.fixture
async def other(gateway: GatewayFixture) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant."""
    async with gateway.client("other") as client:
        yield client


@pytest.fixture
async def admin(gateway: GatewayFixture) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client("platform") as client:
        yield client


@pytest.fixture
async def anonymous(gateway: GatewayFixture) -> AsyncIterator[httpx.AsyncClient]:
    async with gateway.client(None) as client:
        yield client
