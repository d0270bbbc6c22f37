"""The log in memory honours the contract, so that tests may use it."""

from __future__ import annotations

import pytest

from services.orchestrator.tests.configuration_contract import ConfigurationContract
from services.orchestrator.tests.fake_configuration import FakeConfiguration


@pytest.fixture
def log() -> FakeConfiguration:
    return FakeConfiguration()


class TestFakeConfiguration(ConfigurationContract):
    pass
