"""Tests that need real parts get them: what the environment does not name is started, once, by the dev fleet.

Integration tests need Postgres, Redis and Kafka. Unit tests start nothing; the floors above have a fleet of their own.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
from argosy_dev.state import Home
from argosy_dev.up import up

PARTS = {
    "ARGOSY_POSTGRES_DSN": "postgres",
    "ARGOSY_REDIS_URL": "redis",
    "ARGOSY_KAFKA_BOOTSTRAP": "kafka",
}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Bring up what the test needs, before any of its fixtures looks for it."""
    if "integration" in item.path.parts:
        bring_up(*(part for variable, part in PARTS.items() if not os.environ.get(variable)))


@cache
def bring_up(*parts: str) -> None:
    """Start the parts and export their addresses; workers of one run take turns at a lock."""
    if parts:
        for name, value in up(Home.of_environment(), parts).items():
            os.environ.setdefault(name, value)
