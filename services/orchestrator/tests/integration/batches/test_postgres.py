"""Batches on a real Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from argosy.orchestration.v1.events_pb2 import BatchFinished
from chassis.errors import InvalidRequest
from chassis.postgres import Database
from orchestrator.batches.model import LineError
from orchestrator.batches.postgres import BATCH_FINISHED, PostgresBatchStore

from services.orchestrator.tests.batch_store_contract import (
    LEASE,
    BatchStoreContract,
    FinishedEvents,
    a_batch,
    a_caller,
    claim_of,
)


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

    async def test_a_parameter_that_postgres_cannot_store_is_stored_without_its_zeros(
        self, store: PostgresBatchStore
    ) -> None:
        batch = await a_batch(store, a_caller())
        claim = await claim_of(store, batch)
        errors = [LineError(1, InvalidRequest("is it max_tokens?", param="max\x00tokens"), "a")]

        await store.record_lines(claim, 1, errors, LEASE, last=True)

        (error,) = await store.line_errors(batch.tenant_id, batch.batch_id, after=0, limit=9)
        assert error.error.param == "maxtokens"
