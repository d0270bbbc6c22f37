"""The event log in memory keeps the contract."""

from collections.abc import Sequence

import pytest
from orchestrator.jobs.model import Job, JobKey

from services.orchestrator.tests.job_event_log_contract import Append, JobEventLogContract
from services.orchestrator.tests.job_fakes import FakeJobEventLog


class TestFakeJobEventLog(JobEventLogContract):
    @pytest.fixture
    def log(self) -> FakeJobEventLog:
        return FakeJobEventLog()

    @pytest.fixture
    def append(self, log: FakeJobEventLog) -> Append:
        async def append(key: JobKey, event: Job | tuple[int, Sequence[bytes]]) -> str:
            return log.append(key, event)

        return append
