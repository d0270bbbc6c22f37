"""A budget: a cap that the sum of what is spent, held and exposed never exceeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from chassis.errors import ArgosyError, Kind
from values.money import ZERO, NanoUsd

DEFAULT_SOFT_LIMIT_PERCENT: Final = 80


class BudgetSpent(ArgosyError):
    """The budget has less left than the request may cost. Nothing was held; a smaller request may still fit."""

    kind, reason = Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"


class CapBelowSpend(ArgosyError):
    """The cap would be lower than what is spent, held and exposed already; nothing was changed."""

    kind, reason = Kind.CONFLICT, "CAP_BELOW_SPEND"


@dataclass(frozen=True, slots=True)
class Budget:
    """`spent` is settled, `held` is reserved, `exposed` may have been consumed through the tenant's doing.

    `spent + held + exposed <= cap` always. What the operator of Argosy bears is not in a budget.
    """

    cap: NanoUsd
    spent: NanoUsd = ZERO
    held: NanoUsd = ZERO
    exposed: NanoUsd = ZERO

    @property
    def used(self) -> NanoUsd:
        return NanoUsd(self.spent + self.held + self.exposed)

    @property
    def available(self) -> NanoUsd:
        return NanoUsd(self.cap - self.used)

    def adjusted(self, *, spent: NanoUsd = ZERO, held: NanoUsd = ZERO, exposed: NanoUsd = ZERO) -> Budget:
        """Add these amounts, which may be negative."""
        return Budget(self.cap, NanoUsd(self.spent + spent), NanoUsd(self.held + held), NanoUsd(self.exposed + exposed))

    def has_passed(self, percent: int) -> bool:
        """Whether what is used has reached this share of the cap."""
        return self.used * 100 >= self.cap * percent
