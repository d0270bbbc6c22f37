"""The contract of Files, on the fake."""

from services.retrieval.tests.contracts.files import FilesContract


class TestFakeFiles(FilesContract):
    pass
