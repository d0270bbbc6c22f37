"""The fake keeps the contract of the real outbox."""

import pytest

from services.orchestrator.tests.fakes import FakeUsageOutbox
from services.orchestrator.tests.usage_outbox_contract import UsageOutboxContract, Written


class TestFakeUsageOutbox(UsageOutboxContract):
    @pytest.fixture
    def outbox(self) -> FakeUsageOutbox:
        return FakeUsageOutbox()

    @pytest.fixture
    def written(self, outbox: FakeUsageOutbox) -> Written:
        async def written() -> list[tuple[str, str]]:
            return list(outbox.events)

        return written
