"""The duration of the chaos tests, the seed of the random ones, and what the drills with a journal share."""

import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.journal import Journal, journaled_provider
from tests.chaos.own_gateway import OwnGateway, own_gateway
from tests.fleet.client import Fleet


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="kill every part three times under a heavier load")
    parser.addoption("--seed", type=int, help="repeat the random faults of an earlier run")


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether the long form is asked for."""
    return bool(request.config.getoption("--long", default=False))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """The number of kills of each part."""
    return 3 if request.config.getoption("--long", default=False) else 1


@pytest.fixture
def rate(request: pytest.FixtureRequest) -> int:
    """Requests per second during the kills of replicas; the lower rate is one that two busy cores keep."""
    return 500 if request.config.getoption("--long", default=False) else 50


@pytest.fixture
def pairing_seconds(request: pytest.FixtureRequest) -> int:
    """The least duration of the random faults; 0 is one round, without the stores."""
    return 150 if request.config.getoption("--long", default=False) else 0


@pytest.fixture
def steady_within_seconds(request: pytest.FixtureRequest) -> float:
    """When the rate must be steady again after a kill; on a machine that others use, that it is, is what counts."""
    return 2.0 if request.config.getoption("--long", default=False) else 30.0


@pytest.fixture
def chaos_seed(request: pytest.FixtureRequest) -> int:
    """The seed of random faults: the one that was asked for, or a new one."""
    seed: int | None = request.config.getoption("--seed", default=None)
    return secrets.randbelow(10**6) if seed is None else seed


# The processes of these two are watched by the session's event loop, so the drills run on it too.
@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def journal(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Journal]:
    """The journal of the provider `journaled`, which runs as long as the session."""
    async with journaled_provider(tmp_path_factory.mktemp("journal") / "calls.jsonl") as journal:
        yield journal


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(fleet: Fleet) -> AsyncIterator[OwnGateway]:
    """A gateway with a short deadline; drills may kill it."""
    async with own_gateway(fleet) as gateway:
        yield gateway
