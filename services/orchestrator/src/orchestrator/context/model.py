"""Retrieved context: what a client asks for, what retrieval finds, what goes into the prompt."""

from dataclasses import dataclass

from values.attributes import Filter

Document = dict[str, object]
"""A chat request as parsed JSON."""


@dataclass(frozen=True, slots=True)
class RetrievalOptions:
    """Retrieval options of a chat request."""

    vector_store_ids: tuple[str, ...]
    query: str | None = None
    """None searches with the last user message."""
    limit: int | None = None
    optional: bool = False
    """Whether to answer without context while retrieval is unavailable."""
    filters: Filter | None = None
    """Only passages of files whose attributes fit."""


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a file. `page` counts from 1; 0 where the format has none."""

    file_id: str
    filename: str
    page: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Source:
    """A passage as it stands in the prompt, and its number there."""

    number: int
    passage: Passage
