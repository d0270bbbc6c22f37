"""Tenants of the fakes."""

from __future__ import annotations

import pytest

from services.retrieval.tests.fakes import (
    FakeFiles,
    FakeIndex,
    FakeIngests,
    FakeRemovals,
    FakeVectorStores,
    Knowledge,
)
from services.retrieval.tests.tenants import Ports, Tenant


@pytest.fixture
def ports() -> Ports:
    knowledge = Knowledge()
    return Ports(
        FakeFiles(knowledge),
        FakeVectorStores(knowledge),
        FakeIngests(knowledge),
        FakeIndex(knowledge),
        FakeRemovals(knowledge),
    )


@pytest.fixture
def one(ports: Ports) -> Tenant:
    return Tenant(ports, "ten_one")


@pytest.fixture
def other(ports: Ports) -> Tenant:
    return Tenant(ports, "ten_other")
