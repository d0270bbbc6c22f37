"""Fakes of the worker's ports, and the plans that tests run."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from chassis.errors import InvalidRequest
from inference_worker.domain.account import Attempt
from inference_worker.domain.failures import (
    UpstreamCut,
    UpstreamFailed,
    UpstreamGarbage,
    UpstreamRateLimited,
    UpstreamRefused,
)
from inference_worker.domain.infer import Chunk, Finished, PlanRun, Started
from inference_worker.domain.plan import Candidate, Plan
from inference_worker.domain.ports import Answer, Upstream, Vectors
from inference_worker.domain.usage import Usage, UsageSource

WORDS = [f"word{number} " for number in range(8)]

REFUSALS = {
    "429": UpstreamRateLimited("the upstream limits its rate"),
    "500": UpstreamFailed("the upstream failed with status 500"),
    "401": UpstreamFailed("the upstream failed with status 401"),
    "400": UpstreamRefused("simulated 400"),
    "garbage": UpstreamGarbage("not an answer"),
    "error-first": UpstreamFailed("the upstream failed before its answer began"),
    "cut-before": UpstreamFailed("the upstream dropped the connection", again=True),
}
BREAKS = {
    "cut": UpstreamCut("the upstream broke off its answer"),
    "error-event": UpstreamCut("the upstream broke off with an error"),
    "garbage-middle": UpstreamGarbage("not an answer"),
}


def a_body(model: str = "instant", text: str = "hello there", **more: Any) -> bytes:
    """A chat body as the orchestrator makes it, asking for usage."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    if body.get("stream"):
        body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


def a_candidate(model: str = "instant", upstream: str = "fake", *, stream: bool = True, **more: Any) -> Candidate:
    """A candidate whose model says what happens, as in the simulator."""
    return Candidate(upstream, model, a_body(model, stream=stream, **more))


def a_plan(*candidates: Candidate, stream: bool = True, **seconds: float) -> Plan:
    """A plan with times in seconds."""
    times = {"deadline": 10.0, "first_byte_timeout": 5.0, "idle_timeout": 5.0, **seconds}
    return Plan(candidates, stream, **{name: timedelta(seconds=value) for name, value in times.items()})


def chunk(delta: dict[str, Any], reason: str | None = None) -> bytes:
    """A streamed payload."""
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return json.dumps({"object": "chat.completion.chunk", "choices": choices}).encode()


@dataclass
class FakeAnswer:
    """Payloads a read at a time, and how it goes on after them."""

    reads: list[Sequence[bytes]]
    then: UpstreamFailed | None = None
    hangs: bool = False
    streamed: bool = False
    reported: Usage | None = None
    usage: Usage | None = None
    usage_payload: bytes = b""
    aborted: bool = False

    async def read(self) -> Sequence[bytes]:
        await asyncio.sleep(0)
        if self.aborted:
            raise UpstreamCut("the upstream broke off its answer")
        if self.reads:
            return self.reads.pop(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.then is not None:
            raise self.then
        self.usage = self.reported
        if self.usage is not None and self.streamed:
            counts = {"prompt_tokens": self.usage.input_tokens, "completion_tokens": self.usage.output_tokens}
            self.usage_payload = json.dumps({"choices": [], "usage": counts}).encode()
        return ()

    def abort(self) -> None:
        self.aborted = True


@dataclass
class FakeProvider:
    """A provider that does what the candidate's model says, in the simulator's words."""

    opened: list[str] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)
    cancelled: int = 0

    async def open(self, candidate: Candidate, *, stream: bool) -> Answer:
        self.opened.append(candidate.model)
        await asyncio.sleep(0)
        if candidate.model in REFUSALS and not (candidate.model == "error-first" and not stream):
            raise REFUSALS[candidate.model]
        if candidate.model == "timeout":
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled += 1
        answer = self._streamed(candidate.model) if stream else self._whole(candidate.model)
        self.answers.append(answer)
        return answer

    def _streamed(self, model: str) -> FakeAnswer:
        if model == "tools":
            call = {"index": 0, "id": "call_1", "type": "function"}
            first = chunk({"tool_calls": [call | {"function": {"name": "weather", "arguments": ""}}]})
            second = chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city": "Paris"}'}}]})
            return FakeAnswer([[first, second], [chunk({}, "tool_calls")]], reported=self._usage(model), streamed=True)
        breaks = model in BREAKS or model == "silent"
        said = [chunk({"content": word}) for word in (WORDS[:3] if breaks else WORDS)]
        if breaks:
            return FakeAnswer([said], then=BREAKS.get(model), hangs=model == "silent")
        return FakeAnswer([said, [chunk({}, "stop")]], reported=self._usage(model), streamed=True)

    def _whole(self, model: str) -> FakeAnswer:
        if model in BREAKS or model == "silent":
            return FakeAnswer([], then=BREAKS.get(model), hangs=model == "silent")
        message: dict[str, Any] = {"role": "assistant", "content": "".join(WORDS)}
        if model == "tools":
            function = {"name": "weather", "arguments": '{"city": "Paris"}'}
            message = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "function": function}]}
        body = {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        return FakeAnswer([[json.dumps(body).encode()]], reported=self._usage(model))

    def _usage(self, model: str) -> Usage | None:
        return None if model == "no-usage" else Usage(UsageSource.REPORTED, 2, 8)


class FakeCounter:
    """Counts words."""

    async def count(self, texts: Sequence[str]) -> int | None:
        return sum(len(text.split()) for text in texts)


@dataclass
class FakeEmbedder:
    """Vectors of two numbers; the model says what happens."""

    embedded: list[str] = field(default_factory=list)

    async def embed(self, model: str, texts: Sequence[str], *, dimensions: int | None) -> Vectors:
        self.embedded.append(model)
        await asyncio.sleep(0)
        if model in REFUSALS:
            raise REFUSALS[model]
        if model == "timeout":
            await asyncio.Event().wait()
        if dimensions is not None:
            raise InvalidRequest("no fewer", param="dimensions")
        usage = None if model == "no-usage" else Usage(UsageSource.REPORTED, 5, 0)
        return Vectors(tuple(b"\0" * 8 for _ in texts), usage)


@dataclass
class FakeJournal:
    """Remembers what was written down."""

    begun: list[tuple[str, int]] = field(default_factory=list)
    ended: list[tuple[Attempt, Exception | None]] = field(default_factory=list)

    def began(self, candidate: Candidate, number: int) -> "FakeEntry":
        self.begun.append((candidate.upstream, number))
        return FakeEntry(self)


@dataclass
class FakeEntry:
    """One attempt."""

    journal: FakeJournal

    def ended(self, attempt: Attempt, failure: Exception | None) -> None:
        self.journal.ended.append((attempt, failure))


@dataclass
class Told:
    """What a plan said, in order and by kind."""

    steps: "list[Step]"
    started: list[int]
    payloads: list[bytes]
    finished: Finished
    text: str


Step = Started | Chunk


async def run_to_the_end(run: PlanRun, then: Callable[[Step], Awaitable[None]] | None = None) -> Told:
    """Everything a plan says; `then` is what its reader does with each step."""
    steps: list[Step] = []

    async def say(step: Step) -> None:
        steps.append(step)
        if then is not None:
            await then(step)

    finished = await run.run(say)
    chunks = [step for step in steps if isinstance(step, Chunk)]
    payloads = [payload for chunk in chunks for payload in chunk.payloads]
    started = [step.candidate for step in steps if isinstance(step, Started)]
    return Told(steps, started, payloads, finished, text_of(payloads))


def text_of(payloads: Sequence[bytes]) -> str:
    """What the model wrote."""
    written = []
    for payload in payloads:
        for choice in json.loads(payload)["choices"]:
            message = choice.get("delta") or choice.get("message") or {}
            written.append(message.get("content") or "")
    return "".join(written)


def an_upstream(provider: FakeProvider | None = None, embedder: FakeEmbedder | None = None) -> Upstream:
    """An upstream of fakes."""
    return Upstream(FakeCounter(), provider=provider, embedder=embedder)
