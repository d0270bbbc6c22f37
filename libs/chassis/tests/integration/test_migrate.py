"""Migrations and roles on a real Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
from chassis.errors import Unavailable
from chassis.ids import new_id
from chassis.postgres import BrokenMigrations, Database, drop_database, migrate, provision
from chassis.settings import PostgresSection
from chassis.testing.postgres import role_password, scratch_database, superuser_dsn

NOTES = """
CREATE TABLE notes (id text PRIMARY KEY, text text NOT NULL);
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "0001_notes.sql").write_text(NOTES)
    return tmp_path


@pytest.fixture
async def own(folder: Path) -> AsyncIterator[PostgresSection]:
    """A database that the test may migrate."""
    async with scratch_database(folder, "chassis_test", pool_size=2) as section:
        yield section


def owner_of(section: PostgresSection) -> str:
    assert section.owner_dsn is not None
    return section.owner_dsn.get_secret_value()


async def test_migrations_are_applied_once_in_order(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    (folder / "0003_more.sql").write_text("INSERT INTO notes SELECT 'm', word FROM words")
    (folder / "0002_words.sql").write_text("CREATE TABLE words (word text); INSERT INTO words VALUES ('x')")

    assert await migrate(owner, folder, "chassis_test") == ["0002_words.sql", "0003_more.sql"]
    assert await migrate(owner, folder, "chassis_test") == []

    async with Database(own, "notes") as db, db.system() as connection:
        assert await connection.fetchval("SELECT text FROM notes WHERE id = 'm'") == "x"
        assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 3


async def test_migrators_take_turns_even_around_a_concurrent_index(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    (folder / "0002_slow.sql").write_text("SELECT pg_sleep(0.1); CREATE TABLE slow (id int)")
    (folder / "0003_index.sql").write_text(
        "-- argosy: no transaction\nCREATE INDEX CONCURRENTLY notes_by_text ON notes (text)"
    )

    async with asyncio.timeout(30):
        applied = await asyncio.gather(*(migrate(owner, folder, "chassis_test") for _ in range(4)))

    assert sorted(name for names in applied for name in names) == ["0002_slow.sql", "0003_index.sql"]


async def test_a_migration_that_was_changed_is_refused(folder: Path, own: PostgresSection) -> None:
    (folder / "0001_notes.sql").write_text(NOTES + "-- changed")
    (folder / "0002_new.sql").write_text("CREATE TABLE new (id int)")

    with pytest.raises(BrokenMigrations, match=r"0001_notes\.sql"):
        await migrate(owner_of(own), folder, "chassis_test")

    async with Database(own, "notes") as db, db.system() as connection:
        assert await connection.fetchval("SELECT to_regclass('new')") is None


def write_function(folder: Path, name: str, sql: str) -> None:
    (folder / "functions").mkdir(exist_ok=True)
    (folder / "functions" / name).write_text(sql)


def answering(value: int, name: str = "answer") -> str:
    return f"CREATE OR REPLACE FUNCTION chassis_test.{name}() RETURNS integer LANGUAGE sql AS 'SELECT {value}'"


async def test_functions_are_applied_after_the_numbered_files_in_the_order_of_their_names(
    folder: Path, own: PostgresSection
) -> None:
    owner = owner_of(own)
    # Postgres checks bodies of language sql when they are made: each needs what comes before it.
    write_function(
        folder,
        "a_count.sql",
        "CREATE OR REPLACE FUNCTION chassis_test.a_count() RETURNS bigint LANGUAGE sql AS"
        " 'SELECT count(*) FROM chassis_test.words'",
    )
    write_function(folder, "b_twice.sql", answering(2, "b_twice").replace("SELECT 2", "SELECT 2 * a_count()::integer"))
    (folder / "0002_words.sql").write_text("CREATE TABLE words (word text); INSERT INTO words VALUES ('x')")

    assert await migrate(owner, folder, "chassis_test") == [
        "0002_words.sql",
        "functions/a_count.sql",
        "functions/b_twice.sql",
    ]
    assert await migrate(owner, folder, "chassis_test") == []

    async with Database(own, "notes") as db, db.system() as connection:
        assert await connection.fetchval("SELECT b_twice()") == 2
        assert await connection.fetchval("SELECT count(*) FROM schema_migrations") == 2


async def test_a_function_that_was_changed_is_applied_again_and_no_other(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    write_function(folder, "answer.sql", answering(1))
    write_function(folder, "other.sql", answering(1, "other"))
    await migrate(owner, folder, "chassis_test")
    for value in (2, 1):
        write_function(folder, "answer.sql", answering(value))

        assert await migrate(owner, folder, "chassis_test") == ["functions/answer.sql"]
        assert await migrate(owner, folder, "chassis_test") == []
        async with Database(own, "notes") as db, db.system() as connection:
            assert await connection.fetchval("SELECT answer()") == value


async def test_a_function_that_fails_is_tried_again_by_the_next_migration(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    write_function(folder, "answer.sql", answering(1))
    await migrate(owner, folder, "chassis_test")
    write_function(folder, "answer.sql", f"{answering(2)}; SELECT nothing FROM nowhere")
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(owner, folder, "chassis_test")
    async with Database(own, "notes") as db, db.system() as connection:
        assert await connection.fetchval("SELECT answer()") == 1

    write_function(folder, "answer.sql", answering(2))
    assert await migrate(owner, folder, "chassis_test") == ["functions/answer.sql"]


async def test_migrators_that_take_turns_apply_a_function_once(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    write_function(folder, "answer.sql", f"SELECT pg_sleep(0.1); {answering(1)}")

    applied = await asyncio.gather(*(migrate(owner, folder, "chassis_test") for _ in range(4)))

    assert sorted(applied) == [[], [], [], ["functions/answer.sql"]]


async def test_only_the_owner_records_what_was_applied(folder: Path, own: PostgresSection) -> None:
    write_function(folder, "answer.sql", answering(1))
    await migrate(owner_of(own), folder, "chassis_test")

    async with Database(own, "notes") as db:
        for table in ("schema_migrations", "schema_functions"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with db.system() as connection:
                    await connection.execute(f"DELETE FROM {table}")


@pytest.mark.parametrize("name", ["with-dash.sql", "Upper.sql", "two.dots.sql"])
async def test_a_function_file_with_a_bad_name_is_refused(folder: Path, own: PostgresSection, name: str) -> None:
    write_function(folder, name, answering(1))

    with pytest.raises(BrokenMigrations, match="functions/"):
        await migrate(owner_of(own), folder, "chassis_test")


@pytest.mark.parametrize("name", ["1_short.sql", "0002-dash.sql", "0001_again.sql", "0002_Upper.sql"])
async def test_a_migration_with_a_bad_name_is_refused(folder: Path, own: PostgresSection, name: str) -> None:
    (folder / name).write_text("SELECT 1")

    with pytest.raises(BrokenMigrations):
        await migrate(owner_of(own), folder, "chassis_test")


async def test_a_migration_that_fails_leaves_nothing_of_itself(folder: Path, own: PostgresSection) -> None:
    owner = owner_of(own)
    (folder / "0002_good.sql").write_text("CREATE TABLE good (id int)")
    (folder / "0003_bad.sql").write_text("CREATE TABLE bad (id int); SELECT nothing FROM nowhere")

    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(owner, folder, "chassis_test")

    async with Database(own, "notes") as db, db.system() as connection:
        assert await connection.fetchval("SELECT to_regclass('bad')") is None
        assert await connection.fetchval("SELECT max(version) FROM schema_migrations") == 2


async def test_provisioning_can_be_repeated_and_done_at_once() -> None:
    name = new_id("test_")
    password = role_password(superuser_dsn())
    try:
        made = await asyncio.gather(
            *(
                provision(superuser_dsn(), name, "chassis_test", schema, app_password=password, owner_password=password)
                for schema in ("one", "two", "one", "two")
            )
        )
        assert len(set(made)) == 1
        connection = await asyncpg.connect(made[0].dsn)
        try:
            assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = $1", name) == "C"
        finally:
            await connection.close()
    finally:
        await drop_database(superuser_dsn(), name)
        await drop_database(superuser_dsn(), name)


async def test_one_services_role_cannot_see_another_services_schema(own: PostgresSection) -> None:
    name = own.dsn.get_secret_value().rpartition("/")[2]
    password = role_password(superuser_dsn())
    other = await provision(
        superuser_dsn(), name, "chassis_other", "other", app_password=password, owner_password=password
    )
    for dsn in (other.dsn, other.owner_dsn):
        connection = await asyncpg.connect(dsn)
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetch("SELECT * FROM chassis_test.notes")
        finally:
            await connection.close()


async def test_a_migration_under_a_running_service_fails_one_request_at_most(
    folder: Path, own: PostgresSection
) -> None:
    async with Database(own.model_copy(update={"pool_size": 1}), "notes") as db:
        await all_notes(db)
        (folder / "0002_more.sql").write_text("ALTER TABLE notes ADD COLUMN more text")
        await migrate(owner_of(own), folder, "chassis_test")

        with pytest.raises(Unavailable):
            await all_notes(db)
        await all_notes(db)


async def all_notes(db: Database) -> None:
    async with db.system() as connection:
        await connection.fetch("SELECT * FROM notes WHERE id > $1", "a")


async def test_an_isolated_table_shows_a_tenant_its_own_rows_alone(folder: Path, own: PostgresSection) -> None:
    (folder / "0002_owned.sql").write_text(
        "CREATE TABLE owned (tenant_id text NOT NULL, id text, PRIMARY KEY (tenant_id, id));"
        "INSERT INTO owned VALUES ('ten_a', '1'), ('ten_b', '2');"
        "SELECT isolate_tenants('owned');"
    )
    await migrate(owner_of(own), folder, "chassis_test")

    async with Database(own, "owned") as db:
        async with db.tenant("ten_a") as connection:
            assert [row["id"] for row in await connection.fetch("SELECT id FROM owned")] == ["1"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with db.tenant("ten_a") as connection:
                await connection.execute("INSERT INTO owned VALUES ('ten_b', '3')")
        async with db.system() as connection:
            assert await connection.fetchval("SELECT count(*) FROM owned") == 2
