"""An inference plan: everything that is decided before execution, and the most that it can consume."""

from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple


class Bound(NamedTuple):
    """The most that one candidate can consume."""

    price_key: str
    input_tokens: int
    output_tokens: int


class Candidate(NamedTuple):
    """One way to run a request: a body that is ready to send, and its bound."""

    upstream: str
    model: str
    bound: Bound
    body: bytes = b""
    """Empty for embeddings."""


class Plan(NamedTuple):
    """Candidates in the order to try them, and how long each may take."""

    request_id: str
    candidates: tuple[Candidate, ...]
    stream: bool
    deadline: timedelta
    first_byte: timedelta
    idle: timedelta


@dataclass(frozen=True, slots=True)
class EmbeddingPlan:
    """Texts to embed, and the candidates that may do it."""

    request_id: str
    candidates: tuple[Candidate, ...]
    inputs: tuple[str, ...]
    dimensions: int
    """0 is the model's own."""
    deadline: timedelta
