"""The fake of idempotency keys keeps the contract."""

import pytest

from services.orchestrator.tests.fake_idempotency import FakeIdempotencyKeys
from services.orchestrator.tests.idempotency_contract import IdempotencyContract


class TestFakeIdempotencyKeys(IdempotencyContract):
    @pytest.fixture
    def keys(self) -> FakeIdempotencyKeys:
        return FakeIdempotencyKeys()
