"""What all floors share: logs as the service writes them, and only those that say that something broke."""

import pytest
from chassis.telemetry import configure_logs


@pytest.fixture(autouse=True, scope="session")
def logs() -> None:
    configure_logs("error", "gateway")
