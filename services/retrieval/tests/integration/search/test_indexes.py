"""HNSW indexes of large stores are made by one command of the owner, and repaired by the next."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from chassis.postgres import Database
from chassis.settings import PostgresSection
from chassis.testing.postgres import superuser_dsn
from retrieval.search.indexes_postgres import _LOCK, create_indexes

from services.retrieval.tests.tenants import Tenant

TEXTS = [f"chunk about subject{n % 7}" for n in range(60)]


@pytest.fixture
def owner_dsn(section: PostgresSection) -> str:
    assert section.owner_dsn is not None
    return section.owner_dsn.get_secret_value()


@pytest.fixture
async def superuser(section: PostgresSection) -> AsyncIterator[Any]:
    path = urlsplit(section.dsn.get_secret_value()).path
    connection = await asyncpg.connect(urlunsplit(urlsplit(superuser_dsn())._replace(path=path)))
    yield connection
    await connection.close()


async def created(database: Database, owner_dsn: str, store: str) -> list[str]:
    """The statements about the store that were run."""
    ran = [statement async for statement in create_indexes(database, owner_dsn, 50)]
    return [statement.split()[0] for statement in ran if store.removeprefix("vs_") in statement]


async def test_a_large_store_gets_its_index_once(one: Tenant, database: Database, owner_dsn: str) -> None:
    store = (await one.indexed(*TEXTS))[0].vector_store_id

    assert await created(database, owner_dsn, store) == ["CREATE"]
    assert await created(database, owner_dsn, store) == []

    await one.ports.stores.delete(one.tenant_id, store)
    assert await created(database, owner_dsn, store) == ["DROP"]


async def test_an_index_whose_build_was_interrupted_is_made_anew(
    one: Tenant, database: Database, owner_dsn: str, superuser: Any
) -> None:
    store = (await one.indexed(*TEXTS))[0].vector_store_id
    await created(database, owner_dsn, store)
    name = f"retrieval.chunks_hnsw_{store.removeprefix('vs_')}"
    await superuser.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1::text::regclass", name)

    assert await created(database, owner_dsn, store) == ["DROP", "CREATE"]

    valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = $1::text::regclass"
    assert await superuser.fetchval(valid, name) is True


async def test_one_process_creates_indexes_at_a_time(
    one: Tenant, database: Database, owner_dsn: str, superuser: Any
) -> None:
    store = (await one.indexed(*TEXTS))[0].vector_store_id
    await superuser.execute("SET search_path TO retrieval, public")
    assert await superuser.fetchval(_LOCK) is True

    assert await created(database, owner_dsn, store) == []
