"""The price book in Postgres."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from chassis.ids import new_id
from chassis.postgres import Database
from values.money import NO_CLASS_PRICES, ClassPrices, NanoUsd, Price

from metering.prices.model import ALL_TENANTS, NO_EDIT, PriceEdit, PriceRow, PriceVersion

IN_FORCE = """
SELECT DISTINCT ON (tenant_id, price_key)
    tenant_id, version, price_key, input_per_million, output_per_million, cached_input_per_million,
    cache_write_per_million, cache_write_1h_per_million, audio_input_per_million, image_input_per_million,
    reasoning_output_per_million, audio_output_per_million, effective_at
FROM metering.prices WHERE effective_at <= now() ORDER BY tenant_id, price_key, effective_at DESC
"""
BY_VERSION = """
SELECT
    tenant_id, version, price_key, input_per_million, output_per_million, cached_input_per_million,
    cache_write_per_million, cache_write_1h_per_million, audio_input_per_million, image_input_per_million,
    reasoning_output_per_million, audio_output_per_million, effective_at
FROM metering.prices WHERE version = ANY ($1)
"""
ADD = """
INSERT INTO metering.prices (
    tenant_id, version, price_key, author, reason, input_per_million, output_per_million, cached_input_per_million,
    cache_write_per_million, cache_write_1h_per_million, audio_input_per_million, image_input_per_million,
    reasoning_output_per_million, audio_output_per_million
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING
    tenant_id, version, price_key, input_per_million, output_per_million, cached_input_per_million,
    cache_write_per_million, cache_write_1h_per_million, audio_input_per_million, image_input_per_million,
    reasoning_output_per_million, audio_output_per_million, effective_at
"""
VERSIONS = """
SELECT
    tenant_id, version, price_key, input_per_million, output_per_million, cached_input_per_million,
    cache_write_per_million, cache_write_1h_per_million, audio_input_per_million, image_input_per_million,
    reasoning_output_per_million, audio_output_per_million, effective_at, author, reason
FROM metering.prices
WHERE tenant_id = '*' AND price_key = $1 AND ($3 = '' OR effective_at < (
    SELECT effective_at FROM metering.prices WHERE tenant_id = '*' AND price_key = $1 AND version = $3
)) ORDER BY effective_at DESC LIMIT $2
"""


class PostgresPriceBook:
    """The database refuses to change or delete a row (migrations/0002)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def in_force(self) -> Sequence[PriceRow]:
        async with self._database.system() as connection:
            return [row_to_price(row) for row in await connection.fetch(IN_FORCE)]

    async def by_version(self, versions: Collection[str]) -> Sequence[PriceRow]:
        async with self._database.system() as connection:
            return [row_to_price(row) for row in await connection.fetch(BY_VERSION, list(versions))]

    async def versions(self, price_key: str, limit: int, before_version: str) -> Sequence[PriceVersion]:
        async with self._database.system() as connection:
            rows = await connection.fetch(VERSIONS, price_key, limit, before_version)
        return [PriceVersion(row_to_price(row), PriceEdit(row["author"], row["reason"])) for row in rows]

    async def add(
        self,
        price_key: str,
        input_per_million: NanoUsd,
        output_per_million: NanoUsd,
        edit: PriceEdit = NO_EDIT,
        classes: ClassPrices | None = None,
    ) -> PriceRow:
        # In force by the clock of the database, which `in_force` compares it with.
        async with self._database.system() as connection:
            row: Any = await connection.fetchrow(
                ADD,
                ALL_TENANTS,
                new_id("prc_"),
                price_key,
                edit.author,
                edit.reason,
                input_per_million,
                output_per_million,
                *(classes or NO_CLASS_PRICES),
            )
        return row_to_price(row)


def row_to_price(row: Mapping[str, Any]) -> PriceRow:
    classes = ClassPrices(*(row[f"{name}_per_million"] for name in ClassPrices._fields))
    price = Price(
        row["price_key"],
        row["version"],
        row["input_per_million"],
        row["output_per_million"],
        None if classes == NO_CLASS_PRICES else classes,
    )
    return PriceRow(price, row["effective_at"], row["tenant_id"])
