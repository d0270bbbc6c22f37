"""A completion that came whole, or has to be given whole."""

from collections.abc import Sequence
from typing import Any

from values.usage import TokenUsage

from inference_worker.providers.assemble import CompletionAssembler
from inference_worker.providers.inner_errors import find_error, unwrap
from inference_worker.providers.model import UpstreamFailed, UpstreamProtocolError
from inference_worker.providers.openai.chunks import (
    ERROR,
    completion_to_chunks,
    has_only_known_fields,
    is_chunk,
    usage_chunk,
)
from inference_worker.providers.payloads import dump, parse_document
from inference_worker.providers.reported_usage import openai_usage, plain_usage, read_usage, without_usage
from inference_worker.providers.transport.completions import HttpCompletion
from inference_worker.providers.transport.connection import Response
from inference_worker.providers.transport.http import HttpClient
from inference_worker.providers.transport.sse import BOM, SseDecoder

DONE = b"[DONE]"
_SSE_FIELDS = (b"data:", b"event:", b"id:", b"retry:", b":")
_OPENED = b"{"


class ChatAnswer(HttpCompletion):
    """A response that is read to its end: a completion, or by mistake the events of one.

    With `stream` the client gets it as chunks.
    """

    __slots__ = ("_stream", "usage")

    def __init__(self, response: Response, client: HttpClient, *, stream: bool) -> None:
        super().__init__(response, client)
        self._stream = stream
        self.usage: TokenUsage | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it was read: an answer comes in one piece."""
        return self._ended

    async def read(self) -> Sequence[bytes]:
        """Return the body, or its chunks. A read that was cancelled may be repeated: what had arrived is kept."""
        if self._ended:
            return ()
        body = await self.read_complete()
        self._ended = True
        try:
            return self._translate(body)
        except UpstreamFailed as error:
            self.usage = error.usage
            raise

    def _translate(self, body: bytes) -> Sequence[bytes]:
        if not body.startswith(_OPENED) and body.removeprefix(BOM).lstrip().startswith(_SSE_FIELDS):
            completion, body = read_events(body, self._client, self._response), b""
        else:
            completion = read_completion(body, self._client, self._response)
        if not self._stream and body and (plain := plain_usage(completion.get("usage"))) is not None:
            # Most answers: what is shown and billed is the usage as it came.
            self.usage = plain
            return (body,)
        self.usage, shown = read_usage(completion)
        if not self._stream:
            return (_with_billed_usage(completion, body, shown),)
        if shown:
            self.usage_payload = usage_chunk({**completion, "choices": []}, shown)
        return completion_to_chunks(completion)


def read_completion(body: bytes, client: HttpClient, response: Response) -> dict[str, Any]:
    """Parse a completion. Raises the error that is in its place, or `UpstreamProtocolError`, which names what came."""
    try:
        completion = unwrap(parse_document(body))
    except UpstreamProtocolError as error:
        raise UpstreamProtocolError(
            f"the upstream sent {describe(body, response.content_type)} instead of JSON"
        ) from error
    if completion is None:
        raise UpstreamProtocolError("the upstream sent JSON that is not an object")
    if ERROR in body or not has_only_known_fields(completion):
        raise_error_in(completion, client, response)
    if not isinstance(completion.get("choices"), list) or not completion["choices"]:
        failed = UpstreamProtocolError("the upstream sent a JSON object that is not a completion")
        failed.usage = openai_usage(completion)
        raise failed
    return completion


def read_events(body: bytes, client: HttpClient, response: Response) -> dict[str, Any]:
    """Put the events of a whole stream together to a completion. Raises as `read_completion`."""
    decoder = SseDecoder(len(body))
    payloads: list[bytes] = []
    names: list[bytes] = []
    for events in (decoder.feed(body), decoder.flush()):
        payloads += events
        names += decoder.names or [b""] * len(events)
    assembler = CompletionAssembler()
    for payload, name in zip(payloads, names, strict=True):
        if payload == DONE:
            break
        event = unwrap(parse_document(payload))
        if event is None:
            raise UpstreamProtocolError("the upstream sent an event that is not a JSON object")
        raise_error_in(event, client, response, name)
        if is_chunk(event, name) or "message" in event:
            assembler.add(payload)
    return unwrap(parse_document(assembler.result())) or {}


def raise_error_in(document: dict[str, Any], client: HttpClient, response: Response, event: bytes = b"") -> None:
    """Raise the error that a response with status 200 is, with the usage that stands beside it."""
    error = find_error(document, event)
    if error is None:
        return
    failed = client.refused(error, response)
    failed.usage = openai_usage(document)
    if failed.usage is not None:
        failed.maybe_billed = True
    raise failed


def describe(body: bytes, content_type: str) -> str:
    """Return what a body is, for an operator."""
    start = body[:64].lstrip().lower()
    if not start:
        return "an empty body"
    if content_type == "text/html" or start.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    return content_type[:60] if content_type and not content_type.endswith("json") else "something"


def _with_billed_usage(completion: dict[str, Any], body: bytes, shown: dict[str, Any]) -> bytes:
    """Return the body, with the counts that are billed where the provider counts in another way."""
    if not shown:
        return body or dump(completion)
    if body and completion.get("usage") == shown:
        return body
    return dump({**without_usage(completion), "usage": shown})
