"""Hooks for all tests: real stores for integration tests, and errors of event loops fail their test.

Integration tests use the Postgres, Redis and Kafka of the test fleet (`tests/fleet`), never those of your environment.
Unit tests start nothing; the tests in `tests/` start what they need.
"""

from __future__ import annotations

import asyncio
import atexit
import os
from collections.abc import Generator
from contextlib import ExitStack
from functools import cache
from typing import Any

import hypothesis
import pytest
from argosy_dev.commands.up import up
from argosy_dev.fleet.paths import FleetPaths
from chassis.testing.pgbouncer import pgbouncer

from tests.fleet.environment import environment

STORES = ("postgres", "redis", "kafka")
POOLED = ("chassis_test", "gateway", "orchestrator", "metering", "retrieval")
"""The roles that tests use behind PgBouncer."""
LOOP_ERRORS: list[str] = []
"""Errors that event loops have reported since the last test, such as exceptions of tasks that no code awaits."""


def pytest_configure() -> None:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime sends usage data to its makers
    hypothesis.settings.register_profile("argosy", deadline=None)  # else an example may take 0.2 s of a busy machine
    hypothesis.settings.load_profile("argosy")
    report = asyncio.BaseEventLoop.call_exception_handler

    def record(loop: asyncio.BaseEventLoop, context: dict[str, Any]) -> None:
        # grpc.aio's poller, one per process, may wake the closed loop of an earlier test; no code of ours is involved.
        if "PollerCompletionQueue._handle_events" not in str(context.get("message")):
            LOOP_ERRORS.append(f"{context.get('message')}: {context.get('exception') or context.get('task')!r}")
        report(loop, context)

    asyncio.BaseEventLoop.call_exception_handler = record  # type: ignore[method-assign, assignment]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, None, None]:
    """Start the stores before the fixtures of an integration test need them."""
    if "integration" in item.path.parts:
        _replace_environment(environment())
        os.environ.update(start_stores())
    yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Restore the environment, because unit tests may follow in this process, and report errors of event loops."""
    try:
        yield
    finally:
        if "integration" in item.path.parts:
            _replace_environment(OWN_ENVIRONMENT)
        errors, LOOP_ERRORS[:] = list(LOOP_ERRORS), []
    if errors and not item.get_closest_marker("loop_errors"):
        pytest.fail("the event loop reported: " + "; ".join(errors), pytrace=False)


LONG_SECONDS = 30
SHORT_LIMITS = (
    "chassis.kafka.membership.PING_TIMEOUT_SECONDS",
    "chassis.lifecycle.components.READY_TIMEOUT_SECONDS",
    "chassis.postgres.database.CONNECT_TIMEOUT_SECONDS",
    "rpc.channel.CONNECT_TIMEOUT_SECONDS",
)
"""Limits of a second or so that a store or a peer may exceed on a busy machine without any fault of ours."""


@pytest.fixture(autouse=True)
def long_limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengthen short limits for integration tests; one that shows such a limit sets it itself."""
    if "integration" in request.path.parts:
        for name in SHORT_LIMITS:
            monkeypatch.setattr(name, LONG_SECONDS)


OWN_ENVIRONMENT = dict(os.environ)
UNTIL_EXIT = ExitStack()
atexit.register(UNTIL_EXIT.close)


def _replace_environment(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


@cache
def start_stores() -> dict[str, str]:
    """Start the stores of the test fleet, if they do not run, and return their addresses.

    With ARGOSY_TEST_POOLING=transaction the services' roles reach Postgres through PgBouncer.
    """
    addresses = up(FleetPaths.from_environment(), STORES)
    if OWN_ENVIRONMENT.get("ARGOSY_TEST_POOLING") == "transaction":
        os.environ.update(addresses)
        addresses["ARGOSY_POSTGRES_POOLER"] = str(UNTIL_EXIT.enter_context(pgbouncer(pool_size=20, names=POOLED)))
    return addresses
