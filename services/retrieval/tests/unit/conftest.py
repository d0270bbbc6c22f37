"""Tenants with in-memory stores."""

from __future__ import annotations

import pytest

from services.retrieval.tests.fake_deletions import FakeDeletionQueue
from services.retrieval.tests.fake_file_batches import FakeFileBatches
from services.retrieval.tests.fake_files import FakeFiles
from services.retrieval.tests.fake_search import FakeSearchIndex
from services.retrieval.tests.fake_store_migrations import FakeStoreMigrations
from services.retrieval.tests.fakes import (
    FakeIngestionStore,
    FakeVectorStores,
    InMemoryDatabase,
)
from services.retrieval.tests.tenants import Ports, Tenant


@pytest.fixture
def knowledge() -> InMemoryDatabase:
    return InMemoryDatabase()


@pytest.fixture
def ports(knowledge: InMemoryDatabase) -> Ports:
    migrations = FakeStoreMigrations(knowledge)
    return Ports(
        FakeFiles(knowledge),
        FakeVectorStores(knowledge),
        FakeIngestionStore(knowledge),
        FakeSearchIndex(knowledge),
        FakeDeletionQueue(knowledge),
        FakeFileBatches(knowledge),
        migrations,
        migrations,
    )


@pytest.fixture
def one(ports: Ports) -> Tenant:
    return Tenant(ports, "ten_one")


@pytest.fixture
def other(ports: Ports) -> Tenant:
    return Tenant(ports, "ten_other")
