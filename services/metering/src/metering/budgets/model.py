"""A budget: a cap that the sum of what is spent and what is held never exceeds."""

from __future__ import annotations

from dataclasses import dataclass

from chassis.errors import ArgosyError, Kind
from values.money import ZERO, NanoUsd


class BudgetSpent(ArgosyError):
    """The budget has less left than the request may cost. Nothing was held; a smaller request may still fit."""

    kind, reason = Kind.EXHAUSTED, "INSUFFICIENT_QUOTA"


class CapBelowSpend(ArgosyError):
    """The cap would be lower than what is spent and held already; nothing was changed."""

    kind, reason = Kind.CONFLICT, "CAP_BELOW_SPEND"


@dataclass(frozen=True, slots=True)
class Budget:
    """`spent` is settled, `held` is reserved; `spent + held <= cap` always."""

    cap: NanoUsd
    spent: NanoUsd = ZERO
    held: NanoUsd = ZERO

    @property
    def available(self) -> NanoUsd:
        return NanoUsd(self.cap - self.spent - self.held)

    def adjusted(self, *, spent: NanoUsd, held: NanoUsd) -> Budget:
        """Add these amounts, which may be negative."""
        return Budget(self.cap, NanoUsd(self.spent + spent), NanoUsd(self.held + held))

    def has_passed(self, percent: int) -> bool:
        """Whether what is spent and held has reached this share of the cap."""
        return (self.spent + self.held) * 100 >= self.cap * percent
