"""Set the cap of a tenant."""

from typing import Protocol

from chassis.errors import InvalidRequest
from values.money import MAX_NANO_USD, NanoUsd

from metering.budgets.model import Budget


class BudgetStore(Protocol):
    """A tenant without a budget of its own has the default cap and has spent nothing."""

    async def read(self, tenant_id: str) -> Budget: ...

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Return the budget after the change. Raises `CapBelowSpend`."""


async def set_cap(tenant_id: str, cap: NanoUsd, *, budgets: BudgetStore) -> Budget:
    """Set a tenant's cap. Raises `InvalidRequest` for a negative cap, `CapBelowSpend` for one below what is used.

    A cap below what is spent, held and exposed is refused and not clipped: clipping would break the invariant of the
    budget or the reservations of running requests. To stop a tenant, set the cap to the sum that the error names.
    """
    if not 0 <= cap <= MAX_NANO_USD:
        raise InvalidRequest("the cap must not be negative", param="cap")
    return await budgets.set_cap(tenant_id, cap)
