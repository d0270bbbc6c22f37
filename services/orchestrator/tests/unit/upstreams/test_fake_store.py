"""The store in memory honours the contract, so that tests may use it."""

from __future__ import annotations

import pytest
from orchestrator.upstreams.vault import Vault

from services.orchestrator.tests.fake_upstreams import NEW_KEY, OLD_KEY, FakeUpstreamStore
from services.orchestrator.tests.upstream_store_contract import UpstreamStoreContract


@pytest.fixture
def store() -> FakeUpstreamStore:
    return FakeUpstreamStore()


@pytest.fixture
def resealed(store: FakeUpstreamStore) -> FakeUpstreamStore:
    class Resealed(FakeUpstreamStore):
        """The same rows with another ring."""

        async def reseal(self, edit: object) -> int:
            store.vault = Vault([NEW_KEY, OLD_KEY])
            return await store.reseal(edit)  # type: ignore[arg-type]

        async def read(self, known_version: int | None) -> object:  # type: ignore[override]
            return await store.read(known_version)

    return Resealed()


class TestFakeUpstreamStore(UpstreamStoreContract):
    pass
