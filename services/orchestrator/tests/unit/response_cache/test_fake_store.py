import pytest
from chassis.testing import FakeClock

from services.orchestrator.tests.answer_store_contract import AnswerStoreContract
from services.orchestrator.tests.fake_answers import FakeAnswerStore


class TestFakeAnswerStore(AnswerStoreContract):
    @pytest.fixture
    def store(self) -> FakeAnswerStore:
        return FakeAnswerStore(FakeClock())
