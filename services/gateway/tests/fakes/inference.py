"""An orchestrator in memory that answers by script."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from chassis.errors import ArgosyError
from chassis.tenancy import Caller, current_caller
from gateway.domain.inference import (
    Begun,
    ChatAsk,
    EmbedAsk,
    Embeddings,
    Finished,
    Model,
    ModelNotFound,
    Payloads,
    Source,
    Step,
    Task,
    Tokens,
)
from gateway.domain.money import NanoUsd

MADE = datetime(2026, 1, 2, tzinfo=UTC)
BODY = b'{"id":"chatcmpl-1","object":"chat.completion","choices":[{"index":0}],"usage":{"prompt_tokens":3},"odd":1}'
CHUNKS = (
    b'{"id":"c","choices":[{"index":0,"delta":{"content":"Hel"}}]}',
    b'{"id":"c","choices":[{"index":0,"delta":{"content":"lo"}}]}',
)
USAGE = b'{"id":"c","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
COST = NanoUsd(12_300)
SOURCE = Source(1, "file-1", "guide.pdf", 3, "An argosy is a fleet.", 0.5)

Scripted = Step | ArgosyError | asyncio.Event


def whole_answer(*, sources: Sequence[Source] = (), soft_limit_passed: bool = False) -> list[Scripted]:
    """A chat completion in one piece."""
    return [Begun(sources, soft_limit_passed), Payloads([BODY]), Finished(Tokens(3, 2), COST)]


def streamed_answer(*, sources: Sequence[Source] = (), usage: bytes = USAGE) -> list[Scripted]:
    """A chat completion in chunks."""
    chunks = [Payloads([chunk]) for chunk in CHUNKS]
    return [Begun(sources, soft_limit_passed=False), *chunks, Finished(Tokens(3, 2), COST, usage_document=usage)]


class FakeAnswer:
    """`Answer` by script: steps are answered, errors raised, events waited for."""

    def __init__(self, script: Sequence[Scripted]) -> None:
        self._script = list(script)
        self.cancelled = False
        self.read = 0

    async def next_step(self) -> Step | None:
        while self._script:
            scripted = self._script.pop(0)
            if isinstance(scripted, asyncio.Event):
                await scripted.wait()
            elif isinstance(scripted, Exception):
                raise scripted
            else:
                self.read += 1
                return scripted
        return None

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeInference:
    """`Inference`. `chat` and `embedding` say what happens; what was asked, and for whom, is kept."""

    chat: Sequence[Scripted] = field(default_factory=whole_answer)
    embedding: Sequence[bytes] | ArgosyError = ()
    models: Sequence[Model] = (
        Model("all-minilm-l6-v2", MADE, Task.EMBEDDING),
        Model("meta/llama", MADE, None),
        Model("smollm2", MADE, Task.CHAT),
    )
    asked: list[ChatAsk | EmbedAsk] = field(default_factory=list)
    callers: list[Caller] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)

    def generate(self, ask: ChatAsk) -> FakeAnswer:
        self._remember(ask)
        self.answers.append(FakeAnswer(self.chat))
        return self.answers[-1]

    async def embed(self, ask: EmbedAsk) -> Embeddings:
        self._remember(ask)
        if isinstance(self.embedding, ArgosyError):
            raise self.embedding
        return Embeddings(self.embedding, Tokens(7, None), COST)

    async def list_models(self) -> Sequence[Model]:
        current_caller()
        return self.models

    def _remember(self, ask: ChatAsk | EmbedAsk) -> None:
        self.callers.append(current_caller())
        self.asked.append(ask)


NO_MODEL = ModelNotFound("The model 'nope' does not exist.", param="model")
