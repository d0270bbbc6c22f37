"""Fixtures: the echo service and its stub of the chassis' tests, and log output that is discarded."""

from collections.abc import Iterator

import pytest
from chassis.telemetry.logs import Output, writing_to

from libs.chassis.tests.conftest import channel_type, echo, stub

__all__ = ["channel_type", "echo", "own_output", "stub"]


@pytest.fixture(autouse=True)
def own_output() -> Iterator[None]:
    """A test must not write where another one has redirected the log."""
    with writing_to(Output()):
        yield
