"""Routes are edited by the schema's owner, on a real Postgres, and by the command as operators call it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest
from chassis.errors import PermissionDenied
from chassis.postgres import Database
from chassis.settings import EX_CONFIG, PostgresSection
from orchestrator.adapters.postgres import PostgresRouteStore
from orchestrator.domain.make_route_entry import make_route_entry
from services.orchestrator.tests.route_editor import RouteStoreContract


@pytest.fixture
async def editor(section: PostgresSection, owner: Any) -> AsyncIterator[PostgresRouteStore]:
    async with Database(section.model_copy(update={"dsn": section.owner_dsn}), "orchestrator") as database:
        yield PostgresRouteStore(database)


@pytest.fixture
def book(database: Database) -> PostgresRouteStore:
    return PostgresRouteStore(database)


class TestPostgresRouteEditor(RouteStoreContract):
    async def test_the_service_itself_is_denied(self, database: Database) -> None:
        editor = PostgresRouteStore(database)

        with pytest.raises(PermissionDenied, match="the owner of the schema may"):
            await editor.put(make_route_entry("gpt", ["a/1"], tenant_id="ten_1"))
        with pytest.raises(PermissionDenied):
            await editor.remove("*", "smollm2")

    async def test_of_many_who_set_a_route_at_once_the_last_ones_is_whole(self, editor: PostgresRouteStore) -> None:
        entries = [make_route_entry("gpt", [f"{name}/1", f"{name}/2"], tenant_id="ten_1") for name in "abcd"]

        await asyncio.gather(*(editor.put(entry) for entry in entries))

        (entry,) = await editor.entries("ten_1")
        assert entry in entries

    async def test_a_route_keeps_the_day_of_its_birth(self, editor: PostgresRouteStore, owner: Any) -> None:
        born = "SELECT created_at FROM routes WHERE tenant_id = 'ten_1'"
        await editor.put(make_route_entry("gpt", ["a/1"], tenant_id="ten_1"))
        before = await owner.fetchval(born)

        await editor.put(make_route_entry("gpt", ["b/2"], tenant_id="ten_1"))

        assert await owner.fetchval(born) == before


def run(section: PostgresSection, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Call `route` of the orchestrator's command line."""
    assert section.owner_dsn is not None
    environment = {
        "PATH": os.environ["PATH"],
        "ORCHESTRATOR_POSTGRES__DSN": section.dsn.get_secret_value(),
        "ORCHESTRATOR_POSTGRES__OWNER_DSN": section.owner_dsn.get_secret_value(),
        "ORCHESTRATOR_PRINCIPAL__SECRETS": "a-secret-for-tests-and-nothing-but-tests",
        **{f"ORCHESTRATOR_TARGETS__{peer}": "127.0.0.1:1" for peer in ("WORKER", "METERING", "RETRIEVAL")},
        **variables,
    }
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", "route", *words],
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_an_operator_sets_lists_and_removes_a_route(section: PostgresSection, owner: Any) -> None:
    mine = ("--tenant", "ten_7")
    done = run(section, "set", "gpt", "a/1", "b/2", *mine)
    assert (done.returncode, done.stderr) == (0, "")

    again = run(section, "set", "gpt", "b/2", "a/1", *mine)
    listed = run(section, "list", *mine)
    removed, none = run(section, "remove", "gpt", *mine), run(section, "remove", "gpt", *mine)

    assert again.stdout == listed.stdout
    assert "gpt    ten_7   chat  b/2 (max_tokens 4096), a/1 (max_tokens 4096)" in listed.stdout
    assert (removed.returncode, removed.stdout) == (0, "removed the route gpt of ten_7\n")
    assert (none.returncode, none.stdout) == (0, "there is no route gpt of ten_7\n")


async def test_a_refusal_is_a_sentence_and_a_status(section: PostgresSection) -> None:
    senseless = run(section, "set", "gpt", "gpt-5-mini")
    ownerless = run(section, "list", ORCHESTRATOR_POSTGRES__OWNER_DSN="")
    denied = run(section, "remove", "smollm2", ORCHESTRATOR_POSTGRES__OWNER_DSN=section.dsn.get_secret_value())

    assert (senseless.returncode, len(senseless.stderr.splitlines())) == (1, 1)
    assert "'gpt-5-mini' is no candidate" in senseless.stderr
    assert ownerless.returncode == EX_CONFIG
    assert "ORCHESTRATOR_POSTGRES__OWNER_DSN is required" in ownerless.stderr
    assert (denied.returncode, len(denied.stderr.splitlines())) == (1, 1)
    assert "the owner of the schema may" in denied.stderr
