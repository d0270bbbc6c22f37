"""Audit of ledger and budgets over all tenants."""

from dataclasses import dataclass
from typing import Protocol

from values.money import NanoUsd


@dataclass(frozen=True, slots=True)
class AuditResult:
    """Sums over all tenants; `imbalance` and `drift` are 0 or there is a bug."""

    imbalance: NanoUsd
    """Sum of the absolute sums of recent ledger transactions."""
    drift: NanoUsd
    """Sum of the differences between each budget, and its held reservations and open exposures."""
    held: NanoUsd
    spent: NanoUsd
    exposed: NanoUsd


class LedgerAudit(Protocol):
    async def audit(self) -> AuditResult: ...
