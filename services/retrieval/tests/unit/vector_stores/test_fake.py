"""The contracts of VectorStores, on the fake."""

from datetime import timedelta

import pytest
from retrieval.vector_stores.model import VectorStore

from services.retrieval.tests.contracts.expiry import ExpiryContract, Wait
from services.retrieval.tests.contracts.vector_stores import VectorStoresContract
from services.retrieval.tests.fakes import InMemoryDatabase


class TestFakeVectorStores(VectorStoresContract):
    pass


class TestFakeExpiry(ExpiryContract):
    @pytest.fixture
    def wait(self, knowledge: InMemoryDatabase) -> Wait:
        async def wait(store: VectorStore, time: timedelta) -> None:
            for (_, store_id), row in knowledge.stores.items():
                if store_id == store.vector_store_id:
                    row.last_active_at = knowledge.clock.now() - time

        return wait
