"""Tests that need real parts get those of the test fleet, started once; never the ones that your environment names.

Integration tests need Postgres, Redis and Kafka. Unit tests start nothing; the floors above need the whole fleet.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
from argosy_dev.fleet.paths import FleetPaths
from argosy_dev.commands.up import up

from tests.fleet import environment

STORES = ("postgres", "redis", "kafka")


# onnxruntime reports home otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Bring up what the test needs, before any of its fixtures looks for it."""
    if "integration" in item.path.parts:
        bring_up()


@cache
def bring_up() -> None:
    """Start the stores and export their addresses; workers of one run take turns at a lock."""
    tests = environment()
    # Your shell may have read `.argosy/env`: those stores are not for tests.
    for name in os.environ.keys() - tests.keys():
        del os.environ[name]
    os.environ.update(tests)
    for name, value in up(FleetPaths.from_environment(), STORES).items():
        os.environ[name] = value
