"""Requests to the orchestrator, and the events of the response: Started once, Chunks, Finished once."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from chassis.errors import ArgosyError, Kind
from values.embeddings import EmbeddingInput
from values.money import NanoUsd
from values.usage import CacheOutcome, TokenUsage


class ModelNotFound(ArgosyError):
    """No route has this public model name."""

    kind, reason = Kind.NOT_FOUND, "MODEL_NOT_FOUND"


class UpstreamInterrupted(ArgosyError):
    """The model's response ended before it was complete."""

    kind, reason = Kind.UPSTREAM, "UPSTREAM_INTERRUPTED"


class UpstreamInvalidResponse(ArgosyError):
    """The model's response is not what its API promises."""

    kind, reason = Kind.UPSTREAM, "UPSTREAM_INVALID_RESPONSE"


class Task(StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"


@dataclass(frozen=True, slots=True)
class Model:
    """A public model name. `task` is None for a task that this version does not know."""

    name: str
    created_at: datetime
    task: Task | None


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What a request asks of the response cache; None is as the route says."""

    mode: str | None
    max_age: timedelta | None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat completion; `body` is the client's own JSON."""

    request_id: str
    model: str
    body: bytes
    stream: bool
    deadline: timedelta
    cache: CacheControl | None = None
    """From headers."""


@dataclass(frozen=True, slots=True)
class EmbeddingsRequest:
    """Texts to embed, or their token ids; `dimensions` 0 is the model's own number."""

    request_id: str
    model: str
    inputs: Sequence[EmbeddingInput]
    dimensions: int
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to score for a query."""

    request_id: str
    model: str
    query: str
    documents: Sequence[str]
    deadline: timedelta


@dataclass(frozen=True, slots=True)
class Source:
    """A passage in the prompt, with the number it is cited by. `page` counts from 1; 0 is none."""

    number: int
    file_id: str
    filename: str
    page: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class Started:
    sources: Sequence[Source]
    soft_limit_passed: bool
    warnings: Sequence[str] = ()
    """What was dropped from the request or changed in it, a sentence each."""
    cache: CacheOutcome | None = None
    """What the response cache did; None when it was not asked."""
    cache_age_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """JSON documents of the provider for the client: of a stream, some in order; else the one complete body."""

    payloads: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Finished:
    """The response is over. `error` when it was interrupted; `usage_payload` is the provider's own usage chunk."""

    usage: TokenUsage
    cost: NanoUsd
    error: ArgosyError | None = None
    usage_payload: bytes = b""
    warnings: Sequence[str] = ()
    """What was left out of the request for the provider that answered, a sentence each."""


StreamEvent = Started | Chunk | Finished


@dataclass(frozen=True, slots=True)
class EmbeddingsResult:
    """One vector of little-endian 32-bit floats for each input, in order; large answers come in pieces."""

    vectors: Sequence[bytes]
    """All of them, or the first."""
    usage: TokenUsage
    cost: NanoUsd
    rest: "VectorPieces | None" = None


@dataclass(frozen=True, slots=True)
class RerankResult:
    """A score from 0 to 1 for each document, in order."""

    scores: Sequence[float]
    usage: TokenUsage
    cost: NanoUsd
    search_units: int = 0
    """How many of the input tokens of the usage stand for searches."""
    warnings: Sequence[str] = ()


class VectorPieces(Protocol):
    """The vectors after the first, read as they are asked for. Raises the orchestrator's error, or Unavailable."""

    def __aiter__(self) -> AsyncIterator[Sequence[bytes]]: ...

    def cancel(self) -> None:
        """Cancel the call, whether it was read or not. Does nothing when it is over."""
        ...


class CompletionStream(Protocol):
    """Reads the events of one chat completion."""

    async def read(self) -> StreamEvent | None:
        """Wait for the next event; None after the last. Raises the orchestrator's error, or Unavailable."""
        ...

    def cancel(self) -> None:
        """Cancel the call, and with it the work upstream. Does nothing when it is over."""
        ...


class InferenceClient(Protocol):
    def generate(self, request: ChatRequest) -> CompletionStream:
        """Start a chat completion. The first `read` raises the error if it is refused."""
        ...

    async def embed(self, request: EmbeddingsRequest) -> EmbeddingsResult:
        """Raises the orchestrator's error, or Unavailable."""
        ...

    async def rerank(self, request: RerankRequest) -> RerankResult:
        """Raises the orchestrator's error, or Unavailable."""
        ...

    async def list_models(self) -> Sequence[Model]:
        """Models that the caller's tenant may use, by name."""
        ...
