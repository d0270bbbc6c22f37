"""A world for each test."""

from collections.abc import AsyncIterator

import httpx
import pytest

from services.gateway.tests.fakes.world import World, a_world


@pytest.fixture
async def world() -> World:
    return await a_world()


@pytest.fixture
async def demo(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client("demo") as client:
        yield client


@pytest.fixture
async def other(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Another tenant."""
    async with world.client("other") as client:
        yield client


@pytest.fixture
async def admin(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client("platform") as client:
        yield client


@pytest.fixture
async def nobody(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client("nobody") as client:
        yield client
