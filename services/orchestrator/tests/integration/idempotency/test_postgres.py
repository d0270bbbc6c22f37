"""Idempotency keys in a real Postgres keep the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from chassis.postgres import Database
from orchestrator.idempotency.postgres import PostgresIdempotencyKeys

from services.orchestrator.tests.idempotency_contract import KEY, IdempotencyContract


class KeysInPostgres(PostgresIdempotencyKeys):
    def __init__(self, database: Database, owner: Any) -> None:
        super().__init__(database)
        self._owner = owner

    async def pass_time(self, duration: timedelta) -> None:
        """The database's clock cannot be moved: move all times back."""
        await self._owner.execute("UPDATE idempotency_keys SET expires_at = expires_at - $1::interval", duration)


class TestPostgresIdempotencyKeys(IdempotencyContract):
    @pytest.fixture
    async def keys(self, database: Database, owner: Any) -> AsyncIterator[KeysInPostgres]:
        yield KeysInPostgres(database, owner)
        await owner.execute("DELETE FROM idempotency_keys")

    async def test_expired_keys_are_forgotten(self, keys: KeysInPostgres, owner: Any) -> None:
        await keys.resolve(KEY, "job_1")
        await keys.pass_time(timedelta(hours=25))
        await keys.resolve(KEY._replace(key="new"), "job_2")

        await keys.forget_expired()

        assert await owner.fetchval("SELECT array_agg(resource_id) FROM idempotency_keys") == ["job_2"]
