"""The duration of the chaos tests."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="kill every part three times under a heavier load")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """The number of kills of each part."""
    return 3 if request.config.getoption("--long", default=False) else 1


@pytest.fixture
def rate(request: pytest.FixtureRequest) -> int:
    """Requests per second during the kills of replicas."""
    return 500 if request.config.getoption("--long", default=False) else 100
