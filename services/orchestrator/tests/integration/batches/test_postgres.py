"""Batches on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from argosy.orchestration.v1.events_pb2 import BatchFinished
from chassis.postgres import Database
from orchestrator.batches.postgres import BATCH_FINISHED, PostgresBatchStore

from services.orchestrator.tests.batch_store_contract import BatchStoreContract, FinishedEvents


class TestPostgresBatchStore(BatchStoreContract):
    @pytest.fixture
    async def store(self, database: Database, owner: Any) -> AsyncIterator[PostgresBatchStore]:
        yield PostgresBatchStore(database, on_written=lambda: None)
        await owner.execute("DELETE FROM batches")

    @pytest.fixture
    def finished_events(self, owner: Any) -> FinishedEvents:
        async def finished_events() -> list[str]:
            rows = await owner.fetch("SELECT value FROM outbox WHERE topic = $1", BATCH_FINISHED)
            return [BatchFinished.FromString(row["value"]).batch_id for row in rows]

        return finished_events
