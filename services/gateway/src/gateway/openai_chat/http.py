"""`POST /v1/chat/completions`: the client's body and the provider's bytes are passed on unchanged."""

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from time import perf_counter

from chassis.clock import Clock
from chassis.http import Receive, Scope, read_body
from chassis.telemetry import logger

from gateway.inference.cache_headers import cache_response_headers, read_cache_headers
from gateway.inference.limits import InferenceLimits
from gateway.inference.model import (
    CacheControl,
    ChatRequest,
    Chunk,
    CompletionStream,
    Finished,
    InferenceClient,
    Started,
    StreamEvent,
    UpstreamInterrupted,
)
from gateway.metrics import FIRST_BYTE_SECONDS, STREAM_CHUNKS, STREAM_ERRORS
from gateway.openai_chat.openapi import body_properties
from gateway.openai_chat.schemas import ChatBody, read_chat
from gateway.openai_chat.stream import SseEncoder, add_argosy_field, bill_fields, started_fields, with_counted_usage
from gateway.web import sse
from gateway.web.disconnect import CancelOnDisconnect
from gateway.web.errors import to_public_error
from gateway.web.openapi import AsgiRoute
from gateway.web.request_body import RequestBodies
from gateway.web.response import ResponseWriter

ROUTE = AsgiRoute(
    "/v1/chat/completions", "Create a chat completion.", "Chat", ChatBody, streamed=True, accepts="on request"
)
COST = b"argosy-cost"
SOFT_LIMIT = (b"argosy-soft-limit-passed", b"true")

log = logger("gateway")
_first_byte = FIRST_BYTE_SECONDS.labels(ROUTE.path)
_chunks = STREAM_CHUNKS.labels(ROUTE.path)


def route_with(limits: InferenceLimits) -> AsgiRoute:
    """Return the route, documented with the limits of this installation."""
    return replace(ROUTE, properties=body_properties(limits))


class ChatCompletions:
    """The handler; one per process."""

    def __init__(
        self,
        inference: InferenceClient,
        clock: Clock,
        limits: InferenceLimits,
        bodies: RequestBodies,
        *,
        max_body_bytes: int,
        deadline: timedelta,
        beat: timedelta | None = None,
    ) -> None:
        """`beat`: how often a stream gets a comment; None sends none."""
        self._heartbeat_seconds = beat.total_seconds() if beat is not None else None
        self._inference = inference
        self._clock = clock
        self._limits = limits
        self._bodies = bodies
        self._max_body_bytes = max_body_bytes
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, response: ResponseWriter) -> None:
        """Respond to one request, with a complete body or with a stream."""
        response.body = self._bodies.reserve(scope, self._max_body_bytes)
        body = await read_body(receive, self._max_body_bytes, response.body.grow_to)
        cache = read_cache_headers(scope["headers"])
        completion, encoder = self._start(body, response.request_id, cache)
        del body
        try:
            with CancelOnDisconnect(receive) as disconnect:
                if encoder is not None and self._heartbeat_seconds is not None:
                    await send_beating_stream(completion, encoder, response, disconnect, self._heartbeat_seconds)
                    return
                first = await await_first_event(completion)
                if encoder is not None:
                    await send_stream(first, encoder, response, disconnect)
                else:
                    await send_complete(first, response, disconnect)
        finally:
            completion.cancel()

    def _start(
        self, body: bytes, request_id: str, cache: CacheControl | None
    ) -> tuple[CompletionStream, SseEncoder | None]:
        """Start the completion; the encoder is for a stream.

        In a method of its own, so that no frame keeps the body and the prompt: a response may take minutes.
        """
        chat = read_chat(body, self._limits)
        streamed = chat.stream is True
        completion = self._inference.generate(
            ChatRequest(request_id, chat.model, body, streamed, self._deadline, cache)
        )
        if not streamed:
            return completion, None
        created = int(self._clock.now().timestamp())
        return completion, SseEncoder(request_id, chat.model, created, wants_usage=chat.wants_usage)


@dataclass(frozen=True, slots=True)
class FirstEvent:
    """A completion whose HTTP status is known: its first chunk arrived, or its successful end."""

    completion: CompletionStream
    started: Started | None
    event: StreamEvent | None

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that are known before the first byte."""
        cache = cache_response_headers(self.started)
        return (SOFT_LIMIT, *cache) if self.started is not None and self.started.soft_limit_passed else cache


async def await_first_event(completion: CompletionStream) -> FirstEvent:
    """Wait for the first chunk. Raises the error if there is one before it."""
    event = await completion.read()
    started = None
    if isinstance(event, Started):
        started, event = event, await completion.read()
    if not isinstance(event, Chunk):
        require_success(event)
    return FirstEvent(completion, started, event)


async def send_stream(
    first: FirstEvent, encoder: SseEncoder, response: ResponseWriter, disconnect: CancelOnDisconnect
) -> None:
    """Send chunks as they arrive, as fast as the client reads. An error from here on becomes an event."""
    if not response.status:
        await response.start(200, (*sse.HEADERS, *first.headers))
    completion, event = first.completion, first.event
    head = encoder.sources(first.started, event.payloads[0] if isinstance(event, Chunk) and event.payloads else b"")
    _first_byte.observe(perf_counter() - response.started_at)
    try:
        while isinstance(event, Chunk):
            if event.payloads:
                _chunks.inc()
                await response.write(head + sse.encode_events(event.payloads))
                head = b""
            event = await completion.read()
        finished = require_success(event)
    except Exception as error:  # noqa: BLE001 - every error becomes an event
        await send_error_event(error, encoder, response, disconnect, head)
        return
    disconnect.disarm()
    await response.finish(head + encoder.end(finished))


async def send_error_event(
    error: Exception, encoder: SseEncoder, response: ResponseWriter, disconnect: CancelOnDisconnect, head: bytes = b""
) -> None:
    """End a stream with an error."""
    public = to_public_error(error)
    response.error = public
    STREAM_ERRORS.labels(public.code).inc()
    log.warning("stream_failed", reason=public.reason)
    disconnect.disarm()
    await response.finish(head + encoder.error(public))


async def send_beating_stream(
    completion: CompletionStream,
    encoder: SseEncoder,
    response: ResponseWriter,
    disconnect: CancelOnDisconnect,
    seconds: float,
) -> None:
    """Send a stream with a comment every `seconds`. Until the first of them, an error is a status as in any answer."""
    first = asyncio.ensure_future(await_first_event(completion))
    beating: asyncio.Task[None] | None = None
    try:
        await asyncio.wait((first,), timeout=seconds)
        if not first.done():
            await response.start(200, sse.HEADERS)
        beating = asyncio.create_task(_beat(response, seconds))
        try:
            event = await first
        except Exception as error:
            if not response.status:
                raise
            beating.cancel()
            await send_error_event(error, encoder, response, disconnect)
            return
        await send_stream(event, encoder, response, disconnect)
    finally:
        first.cancel()
        if beating is not None:
            beating.cancel()


async def _beat(response: ResponseWriter, seconds: float) -> None:
    """Write comments for as long as the stream lasts: between events they change nothing."""
    if response.status:
        await response.write(sse.COMMENT)
    while True:
        await asyncio.sleep(seconds)
        if response.status and not response.finished:
            await response.write(sse.COMMENT)


async def send_complete(first: FirstEvent, response: ResponseWriter, disconnect: CancelOnDisconnect) -> None:
    """Send the complete body, with its cost."""
    body = b""
    event = first.event
    while isinstance(event, Chunk):
        body += b"".join(event.payloads)
        event = await first.completion.read()
    finished = require_success(event)
    started = first.started
    if started is not None and started.warnings:
        finished = replace(finished, warnings=(*started.warnings, *finished.warnings))
    bill = bill_fields(finished)
    fields = {"request_id": response.request_id, **started_fields(started), **bill}
    body = add_argosy_field(with_counted_usage(body, finished.usage), fields)
    disconnect.disarm()
    await response.send_response(200, body, ((COST, bill["cost_usd"].encode()), *first.headers))


def require_success(event: StreamEvent | None) -> Finished:
    """Raises the error that the response ended with, or UpstreamInterrupted when it ended without Finished."""
    if not isinstance(event, Finished):
        raise UpstreamInterrupted("The response was interrupted.")
    if event.error is not None:
        raise event.error
    return event
