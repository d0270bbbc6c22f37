import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.simulators.upstream import UpstreamSimulator

# This folder's package name would have a hyphen, which cannot be imported.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture
async def simulator() -> AsyncIterator[UpstreamSimulator]:
    async with UpstreamSimulator() as running:
        yield running
