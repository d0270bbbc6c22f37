"""The books in Postgres keep their promises."""

from services.metering.tests.contract import BooksContract


class TestPostgresBooks(BooksContract):
    """With the fixture `books` of this folder."""
