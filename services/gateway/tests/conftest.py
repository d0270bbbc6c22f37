"""What all floors share: logs as the service writes them."""

import pytest
from chassis.telemetry import configure_logs


@pytest.fixture(autouse=True, scope="session")
def logs() -> None:
    configure_logs("info", "gateway")
