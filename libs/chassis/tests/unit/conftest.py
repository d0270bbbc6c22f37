import logging
from collections.abc import Iterator

import pytest
from chassis.telemetry.logs import Output, writing_to


@pytest.fixture(autouse=True)
def own_output() -> Iterator[None]:
    """No test writes where another one has sent the log."""
    with writing_to(Output()):
        yield


@pytest.fixture
def logs_as_they_were() -> Iterator[None]:
    """Restore the process's logging."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
