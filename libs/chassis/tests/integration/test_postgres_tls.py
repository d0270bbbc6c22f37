"""Postgres that accepts TLS only, verified against an authority of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from chassis.errors import Unavailable
from chassis.lifecycle import Check
from chassis.lifecycle.components import readiness
from chassis.postgres import Database, readiness_check
from chassis.settings import PostgresSection
from pydantic import SecretStr

from libs.chassis.tests.certificates import Authority
from libs.chassis.tests.own_servers import postgres_with_tls

PASSWORD = "a password of tests"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def port(authority: Authority) -> Iterator[int]:
    with postgres_with_tls(*authority.server("127.0.0.1"), PASSWORD) as port:
        yield port


def section(port: int, query: str, host: str = "127.0.0.1") -> PostgresSection:
    dsn = f"postgresql://postgres:{PASSWORD.replace(' ', '%20')}@{host}:{port}/postgres?{query}"
    return PostgresSection(dsn=SecretStr(dsn))


async def state(section: PostgresSection) -> str:
    async with Database(section, "notes") as db:
        return (await readiness([Check("postgres", readiness_check(db))]))["postgres"]


@pytest.mark.parametrize("mode", ["verify-full", "verify-ca"])
async def test_a_certificate_of_the_authority_is_accepted(port: int, authority: Authority, mode: str) -> None:
    async with Database(section(port, f"sslmode={mode}&sslrootcert={authority.file}"), "notes") as db:
        async with db.system() as connection:
            assert await connection.fetchval("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()") is True
        rows = await db.system().fetch("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert rows[0]["ssl"] is True
        await readiness_check(db)()


async def test_without_tls_it_is_not_ready_and_says_what_postgres_said(port: int) -> None:
    assert "no encryption" in await state(section(port, "sslmode=disable"))


async def test_a_certificate_of_another_authority_is_named(port: int, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another")
    found = await state(section(port, f"sslmode=verify-full&sslrootcert={other.file}"))
    assert "certificate of Postgres is not trusted" in found
    assert "sslrootcert of POSTGRES__DSN" in found


async def test_a_certificate_for_another_host_is_named(port: int, authority: Authority) -> None:
    found = await state(section(port, f"sslmode=verify-full&sslrootcert={authority.file}", host="localhost"))
    assert "certificate of Postgres is not trusted" in found
    assert "localhost" in found


async def test_a_transaction_says_unavailable_too(port: int, tmp_path: Path) -> None:
    other = Authority(tmp_path, "another")
    async with Database(section(port, f"sslmode=verify-full&sslrootcert={other.file}"), "notes") as db:
        with pytest.raises(Unavailable):
            async with db.tenant("ten_a"):
                pass
        with pytest.raises(Unavailable):
            await db.system().fetch("SELECT 1")
