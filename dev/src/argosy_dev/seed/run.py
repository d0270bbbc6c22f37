"""Inserts the demo data: routes and prices of the embedded models.

The product's migrations insert no rows. Each file `SERVICE.sql` is idempotent and runs as the owner of the schema,
after the migrations and before the service starts, which reads its routes and prices at once.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from argosy_dev.errors import CliError

FILES = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.sql"))}


def seed(services: tuple[str, ...], environment: Mapping[str, str]) -> None:
    """Seed the named services (all that have demo data, when none is named).

    The owner's address comes from the service's own variable, such as METERING_POSTGRES__OWNER_DSN.
    """
    for service in services or tuple(FILES):
        if service not in FILES:
            raise CliError(f"There is no demo data for {service!r}; there is for {', '.join(FILES)}.")
        variable = f"{service.upper().replace('-', '_')}_POSTGRES__OWNER_DSN"
        if not (dsn := environment.get(variable)):
            raise CliError(f"{variable} is not set: `make up` seeds the fleet.")
        asyncio.run(_execute(dsn, FILES[service].read_text(encoding="utf-8")))


async def _execute(dsn: str, sql: str) -> None:
    # Row-level security applies to the owner too; '*' is the tenant of rows for all tenants.
    connection = await asyncpg.connect(dsn, server_settings={"argosy.tenant": "*"})
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
