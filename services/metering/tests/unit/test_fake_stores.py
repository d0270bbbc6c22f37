"""The fake books keep the promises of the real ones."""

import pytest
from chassis.testing import FakeClock

from services.metering.tests.books_contract import BooksContract
from services.metering.tests.endings_contract import EndingsContract
from services.metering.tests.fakes import Books, fake_books


class TestFakeBooks(BooksContract, EndingsContract):
    @pytest.fixture
    def books(self) -> Books:
        return fake_books(FakeClock())
