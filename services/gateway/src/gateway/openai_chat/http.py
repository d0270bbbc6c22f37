"""`POST /v1/chat/completions`: the client's body goes in as it came, the provider's bytes come out as they come."""

from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any

import msgspec
from chassis.clock import Clock
from chassis.errors import Kind, RemoteError
from chassis.http import Receive, Scope, read_body
from chassis.telemetry import logger

from gateway.domain.inference import Answer, Begun, ChatAsk, Finished, Inference, Payloads, Step
from gateway.domain.limits import Limits
from gateway.domain.money import to_usd
from gateway.metrics import FIRST_BYTE_SECONDS, STREAM_CHUNKS, STREAMS_BROKEN

from .bodies import read_chat
from .departure import Departure
from .edge import Reply
from .failures import told
from .sse import HEADERS, Events, frame, sources_of

ROUTE = "/v1/chat/completions"
COST = b"argosy-cost"
SOFT_LIMIT = (b"argosy-soft-limit-passed", b"true")

log = logger("gateway")
_first_byte = FIRST_BYTE_SECONDS.labels(ROUTE)
_chunks = STREAM_CHUNKS.labels(ROUTE)


class ChatCompletions:
    """The handler; one per process."""

    def __init__(
        self, inference: Inference, clock: Clock, limits: Limits, *, body_bytes: int, deadline: timedelta
    ) -> None:
        self._inference = inference
        self._clock = clock
        self._limits = limits
        self._body_bytes = body_bytes
        self._deadline = deadline

    async def __call__(self, _scope: Scope, receive: Receive, reply: Reply) -> None:
        """Answer one request, in one piece or as a stream."""
        answer, events = self._ask(await read_body(receive, self._body_bytes), reply.request_id)
        try:
            with Departure(receive) as departure:
                opening = await open_answer(answer)
                if events is not None:
                    await send_stream(opening, events, reply, departure)
                else:
                    await send_whole(opening, reply, departure)
        finally:
            answer.cancel()

    def _ask(self, body: bytes, request_id: str) -> tuple[Answer, Events | None]:
        """Ask, and say how to answer if it is to be a stream.

        Apart, so that body and prompt are let go here: an answer may be under way for minutes.
        """
        chat = read_chat(body, self._limits)
        streamed = chat.stream is True
        answer = self._inference.generate(ChatAsk(request_id, chat.model, body, streamed, self._deadline))
        if not streamed:
            return answer, None
        created = int(self._clock.now().timestamp())
        return answer, Events(request_id, chat.model, created, wants_usage=chat.wants_usage)


@dataclass(frozen=True, slots=True)
class Opening:
    """An answer that is certain enough for a status line: its first bytes are there, or its good end."""

    answer: Answer
    begun: Begun | None
    step: Step | None

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """What is known before the first byte."""
        return (SOFT_LIMIT,) if self.begun is not None and self.begun.soft_limit_passed else ()


async def open_answer(answer: Answer) -> Opening:
    """Wait for the first bytes. Raises what the answer failed with before them."""
    step = await answer.next_step()
    begun = None
    if isinstance(step, Begun):
        begun, step = step, await answer.next_step()
    if not isinstance(step, Payloads):
        completed(step)
    return Opening(answer, begun, step)


async def send_stream(opening: Opening, events: Events, reply: Reply, departure: Departure) -> None:
    """Send bytes as they come, at the pace of the client; what fails from here on is an event."""
    await reply.start(200, (*HEADERS, *opening.headers))
    head = events.first(opening.begun)
    _first_byte.observe(perf_counter() - reply.started)
    answer, step = opening.answer, opening.step
    try:
        while isinstance(step, Payloads):
            if step.documents:
                _chunks.inc()
                await reply.write(head + frame(step.documents))
                head = b""
            step = await answer.next_step()
        finished = completed(step)
    except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
        known = told(error)
        reply.error = known
        STREAMS_BROKEN.labels(known.code).inc()
        log.warning("stream_broke", reason=known.reason)
        departure.settle()
        await reply.finish(head + events.failure(known))
        return
    departure.settle()
    await reply.finish(head + events.last(finished))


async def send_whole(opening: Opening, reply: Reply, departure: Departure) -> None:
    """Send the whole body at once, with what it cost."""
    body = b""
    step = opening.step
    while isinstance(step, Payloads):
        body += b"".join(step.documents)
        step = await opening.answer.next_step()
    finished = completed(step)
    cost = to_usd(finished.cost)
    addition: dict[str, Any] = {
        "request_id": reply.request_id,
        "cost_usd": cost,
        "sources": sources_of(opening.begun) if opening.begun else [],
    }
    departure.settle()
    await reply.whole(200, with_addition(body, addition), ((COST, cost.encode()), *opening.headers))


def completed(step: Step | None) -> Finished:
    """Require a good end. Raises what the answer broke off with, UPSTREAM_CUT when it did not say."""
    if not isinstance(step, Finished):
        raise RemoteError(Kind.UPSTREAM, "UPSTREAM_CUT", "The answer broke off.")
    if step.failure is not None:
        raise step.failure
    return step


def with_addition(body: bytes, addition: dict[str, Any]) -> bytes:
    """Add `argosy` to a JSON object without reading it. Raises UPSTREAM_GARBAGE when it is none."""
    trimmed = body.strip()
    if not (trimmed.startswith(b"{") and trimmed.endswith(b"}")):
        raise RemoteError(Kind.UPSTREAM, "UPSTREAM_GARBAGE", "The model's answer is not a JSON object.")
    opened = trimmed[:-1].rstrip()
    name = b'"argosy":' if opened == b"{" else b',"argosy":'
    return b"".join((opened, name, msgspec.json.encode(addition), b"}"))
