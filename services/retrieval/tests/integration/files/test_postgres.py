"""The contract of Files, on Postgres."""

from services.retrieval.tests.contracts.files import FilesContract


class TestPostgresFiles(FilesContract):
    pass
