"""Fixtures: the echo service and its stub of the chassis' tests, and log output that is discarded."""

from collections.abc import Iterator

import pytest
from chassis.telemetry.logs import Output, writing_to
from rpc import channel

from libs.chassis.tests.conftest import channel_type, echo, stub

__all__ = ["channel_type", "echo", "long_time_to_connect", "own_output", "stub"]


@pytest.fixture(autouse=True)
def long_time_to_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine connecting may take more than the product's two seconds."""
    monkeypatch.setattr(channel, "CONNECT_TIMEOUT_SECONDS", 30)


@pytest.fixture(autouse=True)
def own_output() -> Iterator[None]:
    """A test must not write where another one has redirected the log."""
    with writing_to(Output()):
        yield
