"""What budgets need from their store."""

from __future__ import annotations

from typing import Protocol

from values.money import NanoUsd

from metering.budgets.model import Budget


class BudgetStore(Protocol):
    """A tenant without a budget of its own has the default cap and has spent nothing."""

    async def read(self, tenant_id: str) -> Budget: ...

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Return the budget after the change. Raises `CapBelowSpend`."""
