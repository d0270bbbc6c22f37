"""An orchestrator in memory whose responses a test scripts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chassis.errors import ArgosyError
from chassis.tenancy import Caller, current_caller
from gateway.inference.model import (
    ChatRequest,
    Chunk,
    EmbeddingsRequest,
    EmbeddingsResult,
    Finished,
    Model,
    ModelNotFound,
    RerankRequest,
    RerankResult,
    Source,
    Started,
    StreamEvent,
    Task,
)
from values.money import NanoUsd
from values.usage import TokenUsage, UsageSource

CREATED_AT = datetime(2026, 1, 2, tzinfo=UTC)
BODY = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0}],"usage":{"prompt_tokens":3},"odd":1}'
CHUNKS = (
    b'{"id":"c","choices":[{"index":0,"delta":{"content":"Hel"}}]}',
    b'{"id":"c","choices":[{"index":0,"delta":{"content":"lo"}}]}',
)
USAGE_PAYLOAD = (
    b'{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
)
COST = NanoUsd(12_300)
SOURCE = Source(1, "file-1", "guide.pdf", 3, "An argosy is a fleet.", 0.5)
STARTED = Started((), soft_limit_passed=False)

Scripted = StreamEvent | ArgosyError | asyncio.Event


def reported(input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
    """Usage that the provider reported."""
    return TokenUsage(UsageSource.REPORTED, input_tokens, output_tokens)


FINISHED = Finished(reported(3, 2), COST)


def complete_response(*, sources: Sequence[Source] = (), soft_limit_passed: bool = False) -> list[Scripted]:
    """A chat completion with one body."""
    return [Started(sources, soft_limit_passed), Chunk([BODY]), FINISHED]


def streamed_response(*, sources: Sequence[Source] = (), usage_payload: bytes = USAGE_PAYLOAD) -> list[Scripted]:
    """A chat completion in chunks."""
    chunks = [Chunk([chunk]) for chunk in CHUNKS]
    return [
        Started(sources, soft_limit_passed=False),
        *chunks,
        Finished(reported(3, 2), COST, usage_payload=usage_payload),
    ]


class FakeCompletionStream:
    """`CompletionStream` by script: events are returned, errors raised, asyncio events waited for."""

    def __init__(self, script: Sequence[Scripted]) -> None:
        self._script = list(script)
        self.cancelled = False
        self.events_read = 0

    async def read(self) -> StreamEvent | None:
        while self._script:
            scripted = self._script.pop(0)
            if isinstance(scripted, asyncio.Event):
                await scripted.wait()
            elif isinstance(scripted, Exception):
                raise scripted
            else:
                self.events_read += 1
                return scripted
        return None

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeVectorPieces:
    """`VectorPieces` of a script."""

    pieces: Sequence[Sequence[bytes] | ArgosyError | asyncio.Event]
    ended: asyncio.Event

    async def __aiter__(self) -> AsyncIterator[Sequence[bytes]]:
        try:
            for piece in self.pieces:
                if isinstance(piece, ArgosyError):
                    raise piece
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                    continue
                yield piece
        finally:
            self.ended.set()

    def cancel(self) -> None:
        self.ended.set()


@dataclass
class FakeInference:
    """`InferenceClient`. A test sets `chat` and `embedding`; requests, callers and streams are kept."""

    chat: Sequence[Scripted] = field(default_factory=complete_response)
    embedding: Sequence[bytes] | ArgosyError = ()
    """The vectors, or the first of them when there is a rest."""
    embedding_rest: Sequence[Sequence[bytes] | ArgosyError | asyncio.Event] | None = None
    embedding_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the rest is no longer read."""
    scores: Sequence[float] | ArgosyError = ()
    search_units: int = 0
    score_warnings: Sequence[str] = ()
    models: Sequence[Model] = (
        Model("all-minilm-l6-v2", CREATED_AT, Task.EMBEDDING),
        Model("meta/llama", CREATED_AT, None),
        Model("smollm2", CREATED_AT, Task.CHAT),
    )
    requests: list[ChatRequest | EmbeddingsRequest | RerankRequest] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    streams: list[FakeCompletionStream] = field(default_factory=list)

    def generate(self, request: ChatRequest) -> FakeCompletionStream:
        self._keep(request)
        self.streams.append(FakeCompletionStream(self.chat))
        return self.streams[-1]

    async def embed(self, request: EmbeddingsRequest) -> EmbeddingsResult:
        self._keep(request)
        if isinstance(self.embedding, ArgosyError):
            raise self.embedding
        if self.embedding_rest is None:
            return EmbeddingsResult(self.embedding, reported(7, None), COST)
        rest = FakeVectorPieces(self.embedding_rest, self.embedding_ended)
        return EmbeddingsResult(self.embedding, reported(7, None), COST, rest)

    async def rerank(self, request: RerankRequest) -> RerankResult:
        self._keep(request)
        if isinstance(self.scores, ArgosyError):
            raise self.scores
        return RerankResult(self.scores, reported(9, None), COST, self.search_units, self.score_warnings)

    async def list_models(self) -> Sequence[Model]:
        current_caller()
        return self.models

    def _keep(self, request: ChatRequest | EmbeddingsRequest | RerankRequest) -> None:
        self.callers.append(current_caller())
        self.requests.append(request)


MODEL_NOT_FOUND = ModelNotFound("The model 'nope' does not exist.", param="model")
