"""The log of changes on a real Postgres."""

from __future__ import annotations

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.configuration.postgres import PostgresConfiguration
from pydantic import SecretStr

from services.orchestrator.tests.configuration_contract import EDIT, ConfigurationContract, new_key


@pytest.fixture
def announced() -> list[int]:
    return []


@pytest.fixture
def log(database: Database, announced: list[int]) -> PostgresConfiguration:
    async def announce(version: int) -> None:
        announced.append(version)

    return PostgresConfiguration(database, announce)


class TestPostgresConfiguration(ConfigurationContract):
    async def test_a_committed_change_is_announced_once(self, log: PostgresConfiguration, announced: list[int]) -> None:
        async with log.change(EDIT) as change:
            await change.record(new_key(), None, {"a": 1})
            await change.record(new_key(), None, {"a": 1})
            assert announced == []

        assert announced == [await log.version()]

    async def test_what_changes_nothing_is_not_announced(
        self, log: PostgresConfiguration, announced: list[int]
    ) -> None:
        async with log.change(EDIT) as change:
            await change.record(new_key(), {"a": 1}, {"a": 1})

        assert announced == []

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE configuration_changes SET reason = 'another'",
            "DELETE FROM configuration_changes",
            "DELETE FROM configuration_versions",
        ],
    )
    async def test_the_service_cannot_change_history(self, database: Database, statement: str) -> None:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with database.system() as connection:
                await connection.execute(statement)

    async def test_without_postgres_it_is_unavailable(self) -> None:
        async def announce(_: int) -> None:
            return

        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as unreachable:
            with pytest.raises(Unavailable):
                await PostgresConfiguration(unreachable, announce).version()
