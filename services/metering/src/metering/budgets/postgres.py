"""Budgets in Postgres: one row per tenant, made by the first reservation or cap."""

from collections.abc import Mapping
from typing import Any

import asyncpg
from chassis.postgres import Database
from values.money import NanoUsd

from metering.budgets.model import Budget, CapBelowSpend

READ = """
SELECT cap, spent, held AS budget_held, exposed AS budget_exposed FROM metering.budgets
WHERE tenant_id = $1 AND scope = 'tenant' AND scope_id = $1
"""
SET_CAP = """
INSERT INTO metering.budgets (tenant_id, scope, scope_id, cap) VALUES ($1, 'tenant', $1, $2)
ON CONFLICT (tenant_id, scope, scope_id) DO UPDATE SET cap = excluded.cap,
    soft_limit_at = CASE WHEN budgets.cap = excluded.cap THEN budgets.soft_limit_at END,
    hard_limit_at = CASE WHEN budgets.cap = excluded.cap THEN budgets.hard_limit_at END
RETURNING cap, spent, held AS budget_held, exposed AS budget_exposed
"""
WITHIN_CAP = "budgets_within_cap"


class PostgresBudgetStore:
    def __init__(self, database: Database, default_cap: NanoUsd) -> None:
        self._database = database
        self._default_cap = default_cap

    async def read(self, tenant_id: str) -> Budget:
        async with self._database.tenant(tenant_id) as connection:
            row: Any = await connection.fetchrow(READ, tenant_id)
        return Budget(self._default_cap) if row is None else row_to_budget(row)

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        # The constraint decides: a check before the statement could be outdated when it runs.
        try:
            async with self._database.tenant(tenant_id) as connection:
                row: Any = await connection.fetchrow(SET_CAP, tenant_id, cap)
        except asyncpg.CheckViolationError as error:
            if error.constraint_name != WITHIN_CAP:
                raise
            budget = await self.read(tenant_id)
            raise CapBelowSpend(
                f"{budget.spent} nano-USD are spent, {budget.held} held and {budget.exposed} exposed; "
                "the cap cannot be lower",
                param="cap",
            ) from error
        return row_to_budget(row)


def row_to_budget(row: Mapping[str, Any]) -> Budget:
    """Read a budget; its `held` and `exposed` have a prefix, because the row may be a reservation's as well."""
    return Budget(
        NanoUsd(row["cap"]), NanoUsd(row["spent"]), NanoUsd(row["budget_held"]), NanoUsd(row["budget_exposed"])
    )
