"""How long chaos takes."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="kill every part three times under a heavier load")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often each part is killed."""
    return 3 if request.config.getoption("--long", default=False) else 1


@pytest.fixture
def rate(request: pytest.FixtureRequest) -> int:
    """How many requests a second replicas are killed under."""
    return 500 if request.config.getoption("--long", default=False) else 100
