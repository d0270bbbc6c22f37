"""The receiver listens where the test fleet exports to."""

from collections.abc import Iterator

import pytest

from tests.fleet import Fleet
from tests.telemetry.receiver import Receiver, receiving


@pytest.fixture(scope="session")
def receiver(fleet: Fleet) -> Iterator[Receiver]:
    with receiving(fleet.otlp_port) as spans:
        yield spans
