"""The contract of PromptStore, on the fake."""

from __future__ import annotations

import pytest

from services.retrieval.tests.contracts.cached_prompts import PromptStoreContract
from services.retrieval.tests.fake_prompts import FakePromptStore


class TestFakePromptStore(PromptStoreContract):
    @pytest.fixture
    def prompts(self) -> FakePromptStore:
        return FakePromptStore()
