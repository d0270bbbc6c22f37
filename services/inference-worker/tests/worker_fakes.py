"""Fakes of the worker's ports, and the plans that tests run."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from chassis.errors import ArgosyError, InvalidRequest
from inference_worker.plans.model import Attempt, AttemptStarting, Candidate, Chunk, Event, Finished, Plan, Started
from inference_worker.plans.ports import AttemptSpan
from inference_worker.plans.run import PlanRun
from inference_worker.providers.model import (
    Embeddings,
    Scores,
    UpstreamAccountUnavailable,
    UpstreamFailed,
    UpstreamInterrupted,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
)
from inference_worker.providers.ports import Completion, Reranker, Upstream
from values.embeddings import EmbeddingInput
from values.usage import TokenUsage, UsageSource

WORDS = [f"word{number} " for number in range(8)]

ERRORS_BEFORE_THE_RESPONSE = {
    "429": UpstreamRateLimited("the upstream limits its rate"),
    "500": UpstreamFailed("the upstream failed with status 500"),
    "401": UpstreamAccountUnavailable("the upstream refused the operator's credential"),
    "400": UpstreamRejected("simulated 400"),
    "garbage": UpstreamProtocolError("not a completion"),
    "error-first": UpstreamFailed("the upstream failed before its response began"),
    "cut-before": UpstreamFailed("the upstream dropped the connection", retry_same=True),
}
ERRORS_WITHIN_THE_RESPONSE = {
    "cut": UpstreamInterrupted("the upstream's response was interrupted"),
    "error-event": UpstreamInterrupted("the upstream's response was interrupted by an error"),
    "garbage-middle": UpstreamProtocolError("not a completion"),
}


def a_body(model: str = "instant", text: str = "hello there", **fields: Any) -> bytes:
    """A chat body as the orchestrator makes it, asking for usage."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def a_candidate(model: str = "instant", upstream: str = "fake", *, stream: bool = True, **fields: Any) -> Candidate:
    """A candidate whose model selects the behaviour, as in the simulator."""
    return Candidate(upstream, model, a_body(model, stream=stream, **fields))


def a_plan(*candidates: Candidate, stream: bool = True, **seconds: float) -> Plan:
    """A plan with timeouts in seconds."""
    timeouts = {"deadline": 10.0, "first_byte_timeout": 5.0, "idle_timeout": 5.0, **seconds}
    return Plan(candidates, stream, **{name: timedelta(seconds=value) for name, value in timeouts.items()})


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    """A streamed payload."""
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return json.dumps({"object": "chat.completion.chunk", "choices": choices}).encode()


@dataclass
class FakeCompletion:
    """Returns `reads` one by one; then it raises `error`, hangs, or ends."""

    reads: list[Sequence[bytes]]
    error: UpstreamFailed | None = None
    hangs: bool = False
    streamed: bool = False
    usage_at_end: TokenUsage | None = None
    usage: TokenUsage | None = None
    usage_payload: bytes = b""
    aborted: bool = False
    backlog_bytes: int = 0

    async def read(self) -> Sequence[bytes]:
        await asyncio.sleep(0)
        if self.aborted:
            raise UpstreamInterrupted("the upstream's response was interrupted")
        if self.reads:
            return self.reads.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        self.usage = self.usage_at_end
        if self.usage is not None and self.streamed:
            counts = {"prompt_tokens": self.usage.input_tokens, "completion_tokens": self.usage.output_tokens}
            self.usage_payload = json.dumps({"choices": [], "usage": counts}).encode()
        return ()

    def abort(self) -> None:
        self.aborted = True


@dataclass
class FakeProvider:
    """A provider whose behaviour the model selects, by the simulator's names."""

    opened: list[str] = field(default_factory=list)
    completions: list[FakeCompletion] = field(default_factory=list)
    cancelled: int = 0

    async def open(self, model: str, body: bytes, *, stream: bool, credential: Any = None) -> Completion:
        self.opened.append(model)
        await asyncio.sleep(0)
        if model in ERRORS_BEFORE_THE_RESPONSE and not (model == "error-first" and not stream):
            raise ERRORS_BEFORE_THE_RESPONSE[model]
        if model == "timeout":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        completion = self._streamed(model) if stream else self._buffered(model)
        self.completions.append(completion)
        return completion

    def _streamed(self, model: str) -> FakeCompletion:
        usage = self._usage(model)
        if model == "tools":
            call = {"index": 0, "id": "call_1", "type": "function"}
            first = chunk({"tool_calls": [call | {"function": {"name": "weather", "arguments": ""}}]})
            second = chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Paris"}'}}]})
            return FakeCompletion([[first, second], [chunk({}, "tool_calls")]], usage_at_end=usage, streamed=True)
        breaks_off = model in ERRORS_WITHIN_THE_RESPONSE or model == "silent"
        chunks = [chunk({"content": word}) for word in (WORDS[:3] if breaks_off else WORDS)]
        if breaks_off:
            return FakeCompletion([chunks], error=ERRORS_WITHIN_THE_RESPONSE.get(model), hangs=model == "silent")
        return FakeCompletion([chunks, [chunk({}, "stop")]], usage_at_end=usage, streamed=True)

    def _buffered(self, model: str) -> FakeCompletion:
        if model in ERRORS_WITHIN_THE_RESPONSE or model == "silent":
            return FakeCompletion([], error=ERRORS_WITHIN_THE_RESPONSE.get(model), hangs=model == "silent")
        message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
        if model == "tools":
            function = {"name": "weather", "arguments": '{"city": "Paris"}'}
            message = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": function}]}
        body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return FakeCompletion([[json.dumps(body).encode()]], usage_at_end=self._usage(model))

    def _usage(self, model: str) -> TokenUsage | None:
        return None if model == "no-usage" else TokenUsage(UsageSource.REPORTED, 2, 8)


class FakeCounter:
    """Counts words."""

    async def count(self, texts: Sequence[str]) -> int | None:
        return sum(len(text.split()) for text in texts)


@dataclass
class FakeEmbedder:
    """Vectors of two numbers; the model selects the behaviour."""

    refuse_truncation: bool | None = None
    """As the last call said."""
    vector: bytes = b"\0" * 8
    embedded: list[str] = field(default_factory=list)
    inputs: list[Sequence[EmbeddingInput]] = field(default_factory=list)

    async def embed(
        self,
        model: str,
        texts: Sequence[EmbeddingInput],
        *,
        dimensions: int | None,
        credential: Any = None,
        refuse_truncation: bool = False,
    ) -> Embeddings:
        self.refuse_truncation = refuse_truncation
        self.embedded.append(model)
        self.inputs.append(texts)
        await asyncio.sleep(0)
        if model in ERRORS_BEFORE_THE_RESPONSE:
            raise ERRORS_BEFORE_THE_RESPONSE[model]
        if model == "timeout":
            await asyncio.Event().wait()
        if dimensions is not None:
            raise InvalidRequest("other dimensions are not supported", param="dimensions")
        usage = None if model == "no-usage" else TokenUsage(UsageSource.REPORTED, 5, 0)
        return Embeddings(tuple(self.vector for _ in texts), usage)


@dataclass
class FakeReranker:
    """Scores are shares of the query's words; the model selects the behaviour."""

    scored: list[str] = field(default_factory=list)

    async def rerank(self, model: str, query: str, documents: Sequence[str], *, credential: Any = None) -> Scores:
        self.scored.append(model)
        await asyncio.sleep(0)
        if model in ERRORS_BEFORE_THE_RESPONSE:
            raise ERRORS_BEFORE_THE_RESPONSE[model]
        if model == "timeout":
            await asyncio.Event().wait()
        words = set(query.split())
        usage = None if model == "no-usage" else TokenUsage(UsageSource.REPORTED, 7, 0)
        return Scores(tuple(len(words & set(document.split())) / len(words) for document in documents), usage)


@dataclass
class FakeObserver:
    """Records which attempts were started and finished."""

    started: list[tuple[str, int]] = field(default_factory=list)
    finished: list[tuple[Attempt, ArgosyError | None]] = field(default_factory=list)

    passed: list[str] = field(default_factory=list)

    def passed_over(self, candidate: Candidate) -> None:
        self.passed.append(candidate.upstream)

    def start(self, candidate: Candidate, number: int, account: str) -> AttemptSpan:
        self.started.append((candidate.upstream, number))
        return FakeSpan(self)


@dataclass
class FakeSpan:
    observer: FakeObserver

    def finish(self, attempt: Attempt, error: ArgosyError | None) -> None:
        self.observer.finished.append((attempt, error))


@dataclass
class RecordedRun:
    """What a plan emitted, in order and by type, and its end."""

    events: list[Event]
    started: list[int]
    payloads: list[bytes]
    finished: Finished
    text: str


async def record(run: PlanRun, on_event: Callable[[Event], Awaitable[None]] | None = None) -> RecordedRun:
    """Run a plan, and allow each attempt; `on_event` is what its caller does with each event."""
    events: list[Event] = []

    async def emit(event: Event) -> None:
        events.append(event)
        if on_event is not None:
            await on_event(event)
        elif isinstance(event, AttemptStarting):
            run.proceed(event.number)

    finished = await run.run(emit)
    payloads = [payload for event in events if isinstance(event, Chunk) for payload in event.payloads]
    started = [event.candidate for event in events if isinstance(event, Started)]
    return RecordedRun(events, started, payloads, finished, text_of(payloads))


def text_of(payloads: Sequence[bytes]) -> str:
    """The text that the model wrote."""
    texts = []
    for payload in payloads:
        for choice in json.loads(payload)["choices"]:
            message = choice.get("delta") or choice.get("message") or {}
            content = message.get("content")
            texts.append(content if isinstance(content, str) else "")
    return "".join(texts)


def an_upstream(
    provider: FakeProvider | None = None,
    embedder: FakeEmbedder | None = None,
    token_id_embedder: FakeEmbedder | None = None,
    reranker: Reranker | None = None,
) -> Upstream:
    return Upstream(
        FakeCounter(),
        provider=provider,
        embedder=embedder,
        token_id_embedder=token_id_embedder,
        reranker=reranker,
    )
