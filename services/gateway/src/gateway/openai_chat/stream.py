"""Server-sent events of a streamed answer, made of the provider's own bytes."""

from collections.abc import Sequence
from typing import Any

import msgspec
from chassis.errors import ArgosyError
from chassis.http import openai_error

from gateway.domain.inference import Begun, Finished, Source, Tokens
from gateway.domain.money import to_usd

DONE = b"data: [DONE]\n\n"
HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
)


def frame(documents: Sequence[bytes]) -> bytes:
    """Write one event per JSON document, all in one piece."""
    joined = b"\n\ndata: ".join(documents)
    if b"\r" in joined or joined.count(b"\n") != 2 * (len(documents) - 1):
        # A line break would end the field; between JSON tokens it means nothing, so it may go on as a line of its own.
        joined = b"\n\ndata: ".join(b"\ndata: ".join(document.splitlines()) for document in documents)
    return b"data: " + joined + b"\n\n"


def sources_of(begun: Begun) -> list[dict[str, Any]]:
    """Write sources for the client, numbered as they are cited."""
    return [_source(source) for source in begun.sources]


def tokens_of(tokens: Tokens) -> dict[str, int] | None:
    """Write usage in OpenAI's shape; None when nobody knows it."""
    if tokens.input is None or tokens.output is None:
        return None
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    }


class Events:
    """The gateway's own events around the provider's: sources first, the bill last."""

    def __init__(self, request_id: str, model: str, created: int, *, wants_usage: bool) -> None:
        self._request_id = request_id
        self._model = model
        self._created = created
        self._wants_usage = wants_usage

    def first(self, begun: Begun | None) -> bytes:
        """Write the sources; nothing when there are none."""
        if begun is None or not begun.sources:
            return b""
        chunk = self._chunk([_choice({"role": "assistant", "content": ""})])
        chunk["argosy"] = {"request_id": self._request_id, "sources": sources_of(begun)}
        return frame([msgspec.json.encode(chunk)])

    def last(self, finished: Finished) -> bytes:
        """Write the usage chunk with the bill, and the end of the stream."""
        chunk = self._provider_chunk(finished.usage_document) or self._chunk([])
        # Who did not ask for usage may well read choices[0] of every chunk.
        chunk["choices"] = [] if self._wants_usage else [_choice({})]
        if not chunk.get("usage"):
            chunk["usage"] = tokens_of(finished.tokens)
        chunk["argosy"] = {"request_id": self._request_id, "cost_usd": to_usd(finished.cost)}
        return frame([msgspec.json.encode(chunk)]) + DONE

    def failure(self, error: ArgosyError) -> bytes:
        """Write an error; no end mark follows, because the answer has no end."""
        return frame([msgspec.json.encode(openai_error(error))])

    def _provider_chunk(self, document: bytes) -> dict[str, Any] | None:
        try:
            return msgspec.json.decode(document, type=dict[str, Any]) if document else None
        except (msgspec.DecodeError, RecursionError):
            return None

    def _chunk(self, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self._request_id.removeprefix('req_')}",
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def _choice(delta: dict[str, str]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}


def _source(source: Source) -> dict[str, Any]:
    return {
        "number": source.number,
        "file_id": source.file_id,
        "filename": source.filename,
        "page": source.page or None,
        "text": source.text,
        "score": source.score,
    }
