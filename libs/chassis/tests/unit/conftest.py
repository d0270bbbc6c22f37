import logging
from collections.abc import Iterator

import pytest
from chassis.telemetry.logs import stop_gathering


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """Undo what configuring logs does to the process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    stop_gathering()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
