"""Budgets: a cap that what is spent and what is set aside never exceed together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from chassis.errors import ArgosyError, InvalidRequest, Kind

from metering.domain.money import MAX_NANO_USD, NOTHING, NanoUsd


class BudgetSpent(ArgosyError):
    """The budget has less left than the request may cost. Nothing was set aside; a smaller request may still fit."""

    kind, reason = Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"


class CapBelowSpend(ArgosyError):
    """The cap would be lower than what is spent and set aside already; nothing was changed."""

    kind, reason = Kind.CONFLICT, "CAP_BELOW_SPEND"


@dataclass(frozen=True, slots=True)
class Budget:
    """A cap, what is settled and what is set aside; `spent + held <= cap` always."""

    cap: NanoUsd
    spent: NanoUsd = NOTHING
    held: NanoUsd = NOTHING

    @property
    def free(self) -> NanoUsd:
        """What can still be set aside."""
        return NanoUsd(self.cap - self.spent - self.held)

    def moved(self, *, spent: NanoUsd, held: NanoUsd) -> Budget:
        """Return it after these changes, which may be negative."""
        return Budget(self.cap, NanoUsd(self.spent + spent), NanoUsd(self.held + held))

    def has_passed(self, percent: int) -> bool:
        """Say whether what is spent and held has reached this share of the cap."""
        return (self.spent + self.held) * 100 >= self.cap * percent


class Budgets(Protocol):
    """Where budgets are kept. A tenant without one has the default cap and has spent nothing."""

    async def read(self, tenant_id: str) -> Budget:
        """Read a tenant's budget."""

    async def set_cap(self, tenant_id: str, cap: NanoUsd) -> Budget:
        """Set a tenant's cap. Raises `CapBelowSpend`."""


async def set_cap(tenant_id: str, cap: NanoUsd, *, budgets: Budgets) -> Budget:
    """Set a tenant's cap. Raises `InvalidRequest` for a negative one, `CapBelowSpend` for one that is spent already.

    Lowering it under what is spent and held is refused rather than clipped: the invariant would break, or the holds of
    running requests would. Whoever wants to stop a tenant sets the cap to the sum that the error names.
    """
    if not 0 <= cap <= MAX_NANO_USD:
        raise InvalidRequest("the cap must not be negative", param="cap")
    return await budgets.set_cap(tenant_id, cap)
