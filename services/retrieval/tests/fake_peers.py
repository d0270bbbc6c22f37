"""In-memory object store, parser and embedder."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from retrieval.embeddings.model import Vector
from retrieval.files.model import FileNotFound
from retrieval.parsing.model import Block, FileWarning

from services.retrieval.tests.texts import a_vector


class FakeObjectStore:
    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    async def put(self, key: str, data: AsyncIterator[bytes]) -> int:
        self.stored[key] = b"".join([piece async for piece in data])
        return len(self.stored[key])

    async def read(self, key: str) -> AsyncGenerator[bytes, None]:
        if key not in self.stored:
            raise FileNotFound("the file's bytes are missing")
        for start in range(0, len(self.stored[key]), 1_000):
            yield self.stored[key][start : start + 1_000]

    async def exists(self, key: str) -> bool:
        return key in self.stored

    async def delete(self, key: str) -> None:
        self.stored.pop(key, None)


class FakeParser:
    """Each line of a text is a page. `warnings` come first."""

    def __init__(self, *warnings: FileWarning) -> None:
        self._warnings = warnings

    async def blocks(
        self,
        filename: str,
        data: AsyncGenerator[bytes, None],
        owner: str = "",
    ) -> AsyncGenerator[Block | FileWarning, None]:
        for warning in self._warnings:
            yield warning
        text = b"".join([piece async for piece in data]).decode()
        for page, line in enumerate(text.splitlines(), start=1):
            yield Block(page, line)


class FakeEmbedder:
    """Texts that share words have near vectors. Records the texts of each call; `errors` are raised first, in order."""

    def __init__(self, model: str = "fake") -> None:
        self.model = model
        self.calls: list[list[str]] = []
        self.errors: list[BaseException] = []
        self.others: dict[str, FakeEmbedder] = {}

    def of(self, model: str) -> FakeEmbedder:
        """The embedder of another model, the same one each time."""
        return self.others.setdefault(model, FakeEmbedder(model))

    async def embed(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        if self.errors:
            raise self.errors.pop(0)
        return [a_vector(text) if self.model == "fake" else a_vector(text, self.model) for text in texts]
