"""The books in Postgres keep their promises."""

from services.metering.tests.books_contract import BooksContract
from services.metering.tests.endings_contract import EndingsContract


class TestPostgresBooks(BooksContract, EndingsContract):
    """With the fixture `books` of this folder."""
