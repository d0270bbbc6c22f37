"""The auditor: shows what each audit finds. Every replica runs one."""

from chassis.telemetry import logger

from metering.ledger.audit import LedgerAudit
from metering.metrics import BUDGET_EXPOSED, DRIFT, HELD, IMBALANCE, SPENT

log = logger("metering.ledger")


class Auditor:
    def __init__(self, ledger: LedgerAudit) -> None:
        self._ledger = ledger

    async def run_once(self) -> None:
        result = await self._ledger.audit()
        IMBALANCE.set(result.imbalance)
        DRIFT.set(result.drift)
        HELD.set(result.held)
        SPENT.set(result.spent)
        BUDGET_EXPOSED.set(result.exposed)
        if result.imbalance or result.drift:
            log.error("ledger_out_of_balance", imbalance=result.imbalance, drift=result.drift)
