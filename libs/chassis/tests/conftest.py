"""A parrot, and a stub that reaches it over the loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chassis.tenancy import acting
from chassis.testing import a_caller
from chassis.testing.grpc import serving

from libs.chassis.tests.parrot import SERVICE, Parrot, ParrotStub, register


@pytest.fixture
async def parrot() -> Parrot:
    return Parrot()


@pytest.fixture
async def stub(parrot: Parrot) -> AsyncIterator[ParrotStub]:
    async with serving((register, parrot, SERVICE)) as channel:
        with acting(a_caller()):
            yield ParrotStub(channel)
