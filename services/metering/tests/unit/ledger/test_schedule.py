from chassis.testing import FakeClock
from metering.ledger.audit import AuditResult
from metering.ledger.schedule import Auditor
from values.money import NanoUsd

from services.metering.tests.examples import metric
from services.metering.tests.fakes import FakeStores

GAUGES = (
    "ledger_imbalance_nano_usd",
    "budget_drift_nano_usd",
    "held_nano_usd",
    "spent_nano_usd",
    "budget_exposed_nano_usd",
)


class UnbalancedStores(FakeStores):
    async def audit(self) -> AuditResult:
        return AuditResult(NanoUsd(3), NanoUsd(4), NanoUsd(5), NanoUsd(6), NanoUsd(7))


async def test_the_metrics_show_the_last_audit() -> None:
    await Auditor(UnbalancedStores(FakeClock())).run_once()
    assert [metric(name) for name in GAUGES] == [3, 4, 5, 6, 7]
    await Auditor(FakeStores(FakeClock())).run_once()
    assert [metric(name) for name in GAUGES] == [0] * 5
