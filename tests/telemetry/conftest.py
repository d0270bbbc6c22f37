"""The OTLP receiver listens on the port to which the test fleet exports."""

from collections.abc import Iterator

import pytest

from tests.fleet.client import Fleet
from tests.telemetry.receiver import Receiver, receiving


@pytest.fixture(scope="session")
def receiver(fleet: Fleet) -> Iterator[Receiver]:
    with receiving(fleet.otlp_port) as spans:
        yield spans
