from datetime import timedelta

import pytest
from chassis.errors import Unavailable
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
    await Auditor(UnbalancedStores(FakeClock()), FakeClock()).run_once()
    assert [metric(name) for name in GAUGES] == [3, 4, 5, 6, 7]
    await Auditor(FakeStores(FakeClock()), FakeClock()).run_once()
    assert [metric(name) for name in GAUGES] == [0] * 5


class AwayStores(FakeStores):
    async def audit(self) -> AuditResult:
        raise Unavailable("postgres")


async def test_the_age_of_the_audit_grows_until_one_succeeds() -> None:
    clock = FakeClock()
    auditor = Auditor(AwayStores(clock), clock)
    clock.advance(timedelta(minutes=5))
    with pytest.raises(Unavailable):
        await auditor.run_once()
    assert auditor.age_seconds == 300

    audited = Auditor(FakeStores(clock), clock)
    clock.advance(timedelta(minutes=5))
    await audited.run_once()
    assert audited.age_seconds == 0
