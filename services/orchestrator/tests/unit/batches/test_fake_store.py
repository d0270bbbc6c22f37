"""The fake keeps the contract of the real store."""

import pytest

from services.orchestrator.tests.batch_store_contract import BatchStoreContract, FinishedEvents
from services.orchestrator.tests.fake_batches import FakeBatchStore


class TestFakeBatchStore(BatchStoreContract):
    @pytest.fixture
    def store(self) -> FakeBatchStore:
        return FakeBatchStore()

    @pytest.fixture
    def finished_events(self, store: FakeBatchStore) -> FinishedEvents:
        async def finished_events() -> list[str]:
            return [batch.batch_id for batch in store.finished_events]

        return finished_events
