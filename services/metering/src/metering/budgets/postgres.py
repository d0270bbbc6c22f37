"""Budgets in Postgres."""

from __future__ import annotations

from typing import Any

import asyncpg
from chassis.postgres import Database

from metering.adapters.mapping import from_budget_row
from metering.domain.budgets import Budget, CapBelowSpend
from metering.domain.money import NanoUsd

READ = """
SELECT cap, spent, held AS budget_held FROM metering.budgets
WHERE tenant_id = $1 AND scope = 'tenant' AND scope_id = $1
"""
SET_CAP = """
INSERT INTO metering.budgets (tenant_id, scope, scope_id, cap) VALUES ($1, 'tenant', $1, $2)
ON CONFLICT (tenant_id, scope, scope_id) DO UPDATE SET cap = excluded.cap
RETURNING cap, spent, held AS budget_held
"""
WITHIN_CAP = "budgets_within_cap"


class PostgresBudgets:
    """One row per tenant, made on first use; until then the tenant has `default_cap` and has spent nothing."""

    def __init__(self, database: Database, default_cap: NanoUsd) -> None:
        self._database = database
        self._default_cap = default_cap

    async def read(self, tenant_id: str) -> Budget:
        """Read a tenant's budget."""
        async with self._database.tenant(tenant_id) as connection:
            row: Any = await connection.fetchrow(READ, tenant_id)
        return Budget(self._default_cap) if row is None else from_budget_row(row)

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Set a tenant's cap. Raises `CapBelowSpend`: the constraint that keeps the promise decides."""
        try:
            async with self._database.tenant(tenant_id) as connection:
                row: Any = await connection.fetchrow(SET_CAP, tenant_id, cap)
        except asyncpg.CheckViolationError as error:
            if error.constraint_name != WITHIN_CAP:
                raise
            budget = await self.read(tenant_id)
            raise CapBelowSpend(
                f"{budget.spent} nano-USD are spent and {budget.held} held; the cap cannot be lower", param="cap"
            ) from error
        return from_budget_row(row)
