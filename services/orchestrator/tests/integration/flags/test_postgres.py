"""Flags on a real Postgres, with the log of changes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chassis.errors import Unavailable
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing import free_port
from orchestrator.configuration.model import ALL_TENANTS, ChangeFilter, ConfigurationKind, Edit, ObjectKey
from orchestrator.configuration.postgres import PostgresConfiguration
from orchestrator.configuration.rollback import History, Scope
from orchestrator.flags.documents import flag_to_document
from orchestrator.flags.postgres import PostgresFlagStore
from pydantic import SecretStr

from services.orchestrator.tests.fake_flags import EDIT, switch
from services.orchestrator.tests.flag_store_contract import FlagStoreContract


async def _announce_nothing(_: int) -> None:
    return


@pytest.fixture
async def configuration(database: Database) -> AsyncIterator[PostgresConfiguration]:
    """The log. Its rows are never changed, so that a test's flags are deleted, and the log grows."""
    log = PostgresConfiguration(database, _announce_nothing)
    yield log
    async with database.system() as connection:
        await connection.execute("DELETE FROM flags")


@pytest.fixture
def store(database: Database, configuration: PostgresConfiguration) -> PostgresFlagStore:
    return PostgresFlagStore(database, configuration)


class TestPostgresFlagStore(FlagStoreContract):
    async def test_a_change_is_in_the_log_with_both_sides(
        self, store: PostgresFlagStore, configuration: PostgresConfiguration
    ) -> None:
        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))
        await store.edit("feature.chat", Edit("usr_2", "off"), lambda _: switch("feature.chat", default="off"))

        wanted = ChangeFilter(limit=1, kind=ConfigurationKind.FLAG, name="feature.chat")
        (change,) = await configuration.list_changes(wanted)

        assert change.key == ObjectKey("flag", ALL_TENANTS, "feature.chat")
        assert (change.author, change.reason) == ("usr_2", "off")
        assert change.before == flag_to_document(switch("feature.chat"))
        assert change.after == flag_to_document(switch("feature.chat", default="off"))

    async def test_a_rollback_of_the_configuration_brings_flags_back(
        self, store: PostgresFlagStore, configuration: PostgresConfiguration
    ) -> None:
        first = await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat"))
        assert first is not None
        await store.edit("feature.chat", EDIT, lambda _: switch("feature.chat", default="off"))
        await store.edit("feature.jobs", EDIT, lambda _: switch("feature.jobs"))

        history = History(configuration, {ConfigurationKind.FLAG: store})
        await history.rollback(first.version, EDIT, Scope(kind=ConfigurationKind.FLAG))

        assert [stored.flag for stored in await store.list()] == [first.flag]

    async def test_without_postgres_it_is_unavailable(self) -> None:
        section = PostgresSection(dsn=SecretStr(f"postgresql://nobody:nothing@127.0.0.1:{free_port()}/none"))
        async with Database(section, "orchestrator") as unreachable:
            with pytest.raises(Unavailable):
                await PostgresFlagStore(unreachable, PostgresConfiguration(unreachable, _announce_nothing)).read(None)
