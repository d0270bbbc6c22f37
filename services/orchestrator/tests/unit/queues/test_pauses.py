"""Pauses in memory keep the contract, and a pause names something."""

import pytest
from chassis.errors import InvalidRequest
from orchestrator.queues.model import PauseSelector

from services.orchestrator.tests.queue_fakes import FakeQueueStore
from services.orchestrator.tests.queue_pauses_contract import QueuePausesContract


class TestFakePauses(QueuePausesContract):
    @pytest.fixture
    def queues(self) -> FakeQueueStore:
        return FakeQueueStore()


def test_a_pause_that_names_nothing_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        PauseSelector().check()
