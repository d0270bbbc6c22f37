"""Ready means that what a service relies on works, and not only that its stores answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.kafka import TopicsCheck
from chassis.lifecycle import Check
from chassis.lifecycle.components import readiness
from chassis.postgres import Database, failures, migrate, readiness_check
from chassis.settings import PostgresSection
from chassis.telemetry import logger
from chassis.telemetry.rate_limited import RateLimitedLog
from chassis.testing import free_port
from chassis.testing.kafka import a_kafka_section
from chassis.testing.logs import captured_lines
from chassis.testing.pooler import dropping_pooler
from chassis.testing.postgres import scratch_database
from pydantic import SecretStr

from libs.chassis.tests.topics import kafka_bootstrap, scratch_topic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text("CREATE TABLE notes (tenant_id text NOT NULL)")
    return tmp_path


@pytest.fixture
async def section(folder: Path) -> AsyncIterator[PostgresSection]:
    async with scratch_database(folder, "chassis_test", pool_size=2) as section:
        yield section


async def test_a_database_that_works_is_ready(section: PostgresSection, folder: Path) -> None:
    async with Database(section, "notes") as database:
        assert await readiness([Check("postgres", readiness_check(database, folder))]) == {"postgres": "ok"}


async def test_behind_a_pooler_that_drops_start_up_parameters_it_is_not_ready_and_says_so(
    section: PostgresSection, folder: Path
) -> None:
    dsn = section.dsn.get_secret_value()
    port = urlsplit(dsn).port
    assert port is not None
    async with dropping_pooler(port) as pooler_port:
        pooled = section.model_copy(update={"dsn": SecretStr(dsn.replace(f":{port}/", f":{pooler_port}/"))})
        async with Database(pooled, "notes") as database:
            await database.ping()  # a statement works, so an answer alone proves nothing
            states = await readiness([Check("postgres", readiness_check(database, folder))])

    assert "start-up parameters statement_timeout, lock_timeout" in states["postgres"]
    assert "pooler" in states["postgres"]


async def test_a_schema_that_is_older_than_the_service_is_not_ready(section: PostgresSection, folder: Path) -> None:
    (folder / "0002_more.sql").write_text("CREATE TABLE more (tenant_id text NOT NULL)")
    async with Database(section, "notes") as database:
        check = readiness_check(database, folder)
        with pytest.raises(Unavailable, match="the schema is at migration 0001, and this version needs 0002"):
            await check()
        assert section.owner_dsn is not None
        await migrate(section.owner_dsn.get_secret_value(), folder, "chassis_test")
        await check()
        # While it is rolled out, processes of the version before meet the newer schema.
        (folder / "0002_more.sql").unlink()
        await readiness_check(database, folder)()


async def test_a_database_without_migrations_is_not_ready(folder: Path) -> None:
    async with scratch_database(None, "chassis_test") as section, Database(section, "notes") as database:
        with pytest.raises(Unavailable, match="run the command `migrate`"):
            await readiness_check(database, folder)()


async def test_the_reason_of_postgres_is_named_and_the_password_is_not(
    section: PostgresSection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_failure_log", RateLimitedLog(logger("test")))
    assert section.owner_dsn is not None
    owner = await asyncpg.connect(section.owner_dsn.get_secret_value())
    user = urlsplit(section.dsn.get_secret_value()).username
    wrong = section.model_copy(
        update={"dsn": SecretStr(section.dsn.get_secret_value().rsplit("/", 1)[0] + "/" + new_id("none"))}
    )
    await owner.close()
    with captured_lines() as lines:
        async with Database(wrong, "notes") as database:
            states = await readiness([Check("postgres", readiness_check(database))])
            for _ in range(20):
                with pytest.raises(Unavailable):
                    await database.ping()

    assert "does not exist" in states["postgres"]
    reasons = [line["reason"] for line in lines if line["event"] == "postgres_unavailable"]
    assert len(reasons) == 1
    assert "does not exist" in reasons[0]
    password = urlsplit(section.dsn.get_secret_value()).password
    assert user
    assert password
    assert password not in str(states) + str(lines)


async def until_known(check: TopicsCheck) -> str:
    async with asyncio.timeout(30):
        while "not been looked up" in (state := (await readiness([check]))["kafka topics"]):
            await asyncio.sleep(0.02)
    return state


async def test_a_missing_topic_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = f"argosy.test.{new_id('missing-')}"
    async with scratch_topic() as topic:
        found, lacking = (
            TopicsCheck(a_kafka_section(kafka_bootstrap()), topics) for topics in ([topic], [topic, missing])
        )
        await found.start()
        await lacking.start()
        assert await until_known(found) == "ok"
        assert await until_known(lacking) == f"kafka lacks the topics {missing}"
        await found.stop()
        await lacking.stop()


async def test_a_service_is_ready_while_kafka_does_not_answer() -> None:
    """Its events wait in the outbox."""
    check = TopicsCheck(a_kafka_section(f"127.0.0.1:{free_port()}"), ["argosy.test"])
    await check.start()
    assert await until_known(check) == "ok"
    await check.stop()
