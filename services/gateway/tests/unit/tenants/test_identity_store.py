"""The fake directory keeps the promises of the real one."""

import pytest

from services.gateway.tests.contract import DirectoryContract
from services.gateway.tests.fakes.directory import FakeDirectory


class TestFakeDirectory(DirectoryContract):
    @pytest.fixture
    def directory(self) -> FakeDirectory:
        return FakeDirectory()
