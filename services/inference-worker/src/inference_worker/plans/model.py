"""An inference plan: everything that was decided before execution."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to run the request."""

    upstream: str
    model: str
    body: bytes = b""
    """Ready to send: a JSON body of OpenAI's chat completions. Empty for embeddings."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Candidates in the order to try them, and how long each may take."""

    candidates: tuple[Candidate, ...]
    stream: bool
    deadline: timedelta
    first_byte_timeout: timedelta
    idle_timeout: timedelta


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts to embed, and the candidates that may do it."""

    candidates: tuple[Candidate, ...]
    inputs: tuple[str, ...]
    deadline: timedelta
    dimensions: int | None = None
    """Asks for fewer dimensions than the model's own."""
