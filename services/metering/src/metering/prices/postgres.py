"""The price book in Postgres."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from chassis.ids import new_id
from chassis.postgres import Database

from metering.adapters.mapping import from_price_row
from metering.domain.money import NanoUsd
from metering.domain.prices import EVERYBODY, Price

IN_FORCE = """
SELECT DISTINCT ON (tenant_id, price_key)
    tenant_id, version, price_key, input_per_million, output_per_million, effective_at
FROM metering.prices WHERE effective_at <= now() ORDER BY tenant_id, price_key, effective_at DESC
"""
RECORDED = """
SELECT tenant_id, version, price_key, input_per_million, output_per_million, effective_at
FROM metering.prices WHERE version = ANY ($1)
"""
ADD = """
INSERT INTO metering.prices (tenant_id, version, price_key, input_per_million, output_per_million)
VALUES ($1, $2, $3, $4, $5)
RETURNING tenant_id, version, price_key, input_per_million, output_per_million, effective_at
"""


class PostgresPriceBook:
    """Rows are added and read; the database refuses everything else."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_force(self) -> Sequence[Price]:
        """Read the newest effective row of each (tenant, price key)."""
        async with self._database.system() as connection:
            return [from_price_row(row) for row in await connection.fetch(IN_FORCE)]

    async def recorded(self, versions: Collection[str]) -> Sequence[Price]:
        """Read rows by version; what does not exist is left out."""
        async with self._database.system() as connection:
            return [from_price_row(row) for row in await connection.fetch(RECORDED, list(versions))]

    async def add(self, price_key: str, input_per_million: NanoUsd, output_per_million: NanoUsd) -> Price:
        """Put a new price for everybody in force now, by the database's clock."""
        async with self._database.system() as connection:
            row: Any = await connection.fetchrow(
                ADD, EVERYBODY, new_id("prc_"), price_key, input_per_million, output_per_million
            )
        return from_price_row(row)
