"""The auditor: shows what each audit finds. Every replica runs one."""

from chassis.clock import Clock
from chassis.telemetry import logger

from metering.ledger.audit import LedgerAudit
from metering.metrics import BUDGET_EXPOSED, DRIFT, HELD, IMBALANCE, SPENT

log = logger("metering.ledger")


class Auditor:
    def __init__(self, ledger: LedgerAudit, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._audited_at = clock.monotonic()

    @property
    def age_seconds(self) -> float:
        """Seconds since the last audit, or since the start. While it grows, the other metrics say nothing new."""
        return self._clock.monotonic() - self._audited_at

    async def run_once(self) -> None:
        result = await self._ledger.audit()
        IMBALANCE.set(result.imbalance)
        DRIFT.set(result.drift)
        HELD.set(result.held)
        SPENT.set(result.spent)
        BUDGET_EXPOSED.set(result.exposed)
        self._audited_at = self._clock.monotonic()
        if result.imbalance or result.drift:
            log.error("ledger_out_of_balance", imbalance=result.imbalance, drift=result.drift)
