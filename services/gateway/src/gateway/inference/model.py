"""Inference as the edge asks for it: an answer arrives in steps, as opaque bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError, Kind

from .money import NanoUsd


class ModelNotFound(ArgosyError):
    """No route has this public model name."""

    kind = Kind.NOT_FOUND
    reason = "MODEL_NOT_FOUND"


class Task(StrEnum):
    """What a model can do."""

    CHAT = "chat"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Model:
    """A public model name."""

    name: str
    created_at: datetime
    task: Task | None


@dataclass(frozen=True, slots=True)
class ChatAsk:
    """A chat completion to answer; `body` is the client's own JSON."""

    request_id: str
    model: str
    body: bytes
    stream: bool
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class EmbedAsk:
    """Texts to turn into vectors; `dimensions` 0 is the model's own."""

    request_id: str
    model: str
    inputs: Sequence[str]
    dimensions: int
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was consumed; None is unknown, 0 is a value."""

    input: int | None
    output: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that was put into the prompt, as it is cited there."""

    number: int
    file_id: str
    filename: str
    page: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Begun:
    """The answer begins."""

    sources: Sequence[Source]
    soft_limit_passed: bool


@dataclass(frozen=True, slots=True)
class Payloads:
    """JSON documents for the client: those of a stream in order, or the one whole body."""

    documents: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is over and booked. `failure` when it broke off; `usage_document` is the provider's own last word."""

    tokens: Tokens
    cost: NanoUsd
    failure: ArgosyError | None = None
    usage_document: bytes = b""


Step = Begun | Payloads | Finished


class Answer(Protocol):
    """An answer on its way: Begun once, Payloads, Finished once."""

    async def next_step(self) -> Step | None:
        """Wait for the next step; None after the last. Raises what the orchestrator refused with, or Unavailable."""
        ...

    def cancel(self) -> None:
        """Give it up; the work upstream stops. Harmless when it is over."""
        ...


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector of little-endian 32-bit floats per input, in order, and the bill."""

    vectors: Sequence[bytes]
    tokens: Tokens
    cost: NanoUsd


class Inference(Protocol):
    """The door to the orchestrator; acts for the current caller."""

    def generate(self, ask: ChatAsk) -> Answer:
        """Ask for a chat completion; nothing is awaited until the first step is."""
        ...

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        """Turn texts into vectors."""
        ...

    async def list_models(self) -> Sequence[Model]:
        """Models of the caller's tenant, by name."""
        ...
