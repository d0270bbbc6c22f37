"""The contract of the ports, on the fakes."""

import pytest

from services.retrieval.tests.contract import (
    FilesContract,
    IndexContract,
    IngestsContract,
    Ports,
    Tenant,
    VectorStoresContract,
)
from services.retrieval.tests.fakes import (
    FakeFiles,
    FakeIndex,
    FakeIngests,
    FakeRemovals,
    FakeVectorStores,
    Knowledge,
)


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


class TestFakeFiles(FilesContract):
    pass


class TestFakeVectorStores(VectorStoresContract):
    pass


class TestFakeIngests(IngestsContract):
    pass


class TestFakeIndex(IndexContract):
    pass
